//! Tests of inventories, from the definitions that lists have.

use super::inventory::{
    FORGOTTEN_AFTER, INVENTORY_OTHERS_MAX, INVENTORY_TOOLS_MAX, InventoryMemory, NAME_LEN_MAX, SERVER_LEN_MAX,
    TEXT_LEN_MAX, ToolInventory,
};
use super::json_text::Value;
use super::tool_record::{NotApproved, OfferKind, ToolDigest, ToolRecord, ToolStanding};

const ENOUGH: usize = 1 << 20;

fn observe(inventory: &ToolInventory, text: &str) -> bool {
    let element = Value::of(text.as_bytes()).unwrap();
    let name = element.member("name").unwrap().unwrap().value.string().unwrap().into_owned();
    inventory.observe(OfferKind::Tool, &name, &element)
}

fn approve_all(inventory: &ToolInventory, at_ms: i64) {
    for record in inventory.records() {
        let digest = ToolDigest::parse(&record.digest).unwrap();
        inventory.approve(inventory.approval(record.kind, &record.name, digest).unwrap(), at_ms);
    }
}

#[test]
fn a_tool_is_approved_until_its_description_changes() {
    let inventory = ToolInventory::new(&InventoryMemory::new(ENOUGH));
    assert!(!observe(&inventory, r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2}}"#));
    assert!(!inventory.is_approved(OfferKind::Tool, "a") && !inventory.is_approved(OfferKind::Tool, "b"));
    let news = inventory.stamp(10);
    assert_eq!((&*news[0].name, news[0].standing, news.len()), ("a", ToolStanding::New, 1));
    assert!(inventory.stamp(11).is_empty() && !inventory.has_news());
    approve_all(&inventory, 12);
    assert!(inventory.is_approved(OfferKind::Tool, "a"));
    // The same definition, spelled differently, with further members that the digest ignores.
    assert!(observe(
        &inventory,
        r#"{"icons":[],"_meta":{"n":1}, "inputSchema":{"y":2,"x":1},"description":"\u0061dds","name":"a"}"#
    ));
    assert!(inventory.stamp(13).is_empty());
    for changed in [
        r#"{"name":"a","description":"adds, and sends","inputSchema":{"x":1,"y":2}}"#,
        r#"{"name":"a","title":"t","description":"adds","inputSchema":{"x":1,"y":2}}"#,
        r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":3}}"#,
        r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2},"outputSchema":{}}"#,
        r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2},"annotations":{"readOnlyHint":true}}"#,
    ] {
        assert!(!observe(&inventory, changed), "{changed}");
        assert!(!inventory.is_approved(OfferKind::Tool, "a"), "{changed}");
        assert_eq!(inventory.stamp(14)[0].standing, ToolStanding::Changed);
    }
    assert!(observe(&inventory, r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2}}"#), "it is back");
}

#[test]
fn ambiguous_entries_are_reported_and_cannot_be_approved() {
    let memory = InventoryMemory::new(ENOUGH);
    let inventory = ToolInventory::new(&memory);
    let good = r#"{"name":"a","description":"adds","inputSchema":{"x":1}}"#;
    observe(&inventory, good);
    let _ = inventory.stamp(1);
    approve_all(&inventory, 2);
    for unclear in [
        r#"{"name":"a","description":"adds","inputSchema":{"x":1,"x":1}}"#,
        r#"{"name":"a","description":"adds","Description":"sends","inputSchema":{"x":1}}"#,
        r#"{"name":"a","description":"\ud800","inputSchema":{"x":1}}"#,
        r#"{"name":"a","description":"adds","inputSchema":{"x":01}}"#,
    ] {
        assert!(!observe(&inventory, unclear) && !observe(&inventory, unclear), "{unclear}");
        assert!(!inventory.is_approved(OfferKind::Tool, "a"), "{unclear}");
        let news = inventory.stamp(3);
        assert_eq!((news.len(), news[0].standing), (1, ToolStanding::Unreadable), "{unclear}");
        let records = inventory.records();
        assert_eq!(records[0].standing(), ToolStanding::Unreadable);
        assert_eq!(inventory.approval(OfferKind::Tool, "a", news[0].digest).unwrap_err(), NotApproved::Unreadable);
        let kept = serde_json::to_string(&records).unwrap();
        let again = ToolInventory::restored(&memory, &serde_json::from_str::<Vec<ToolRecord>>(&kept).unwrap());
        assert!(!again.is_approved(OfferKind::Tool, "a") && again.records() == records, "{kept}");
    }
    assert!(observe(&inventory, good), "it is again what was approved");
    assert_eq!(inventory.stamp(4)[0].standing, ToolStanding::Approved);
    observe(&inventory, r#"{"name":"b","inputSchema":{"x":1,"x":1}}"#);
    assert_eq!(inventory.stamp(5)[0].standing, ToolStanding::Unreadable);
}

#[test]
fn only_the_displayed_version_can_be_approved() {
    let inventory = ToolInventory::new(&InventoryMemory::new(ENOUGH));
    observe(&inventory, r#"{"name":"a"}"#);
    let digest = ToolDigest::parse(&inventory.records()[0].digest).unwrap();
    let approval = inventory.approval(OfferKind::Tool, "a", digest).unwrap();
    observe(&inventory, r#"{"name":"a","description":"other"}"#);
    assert_eq!(inventory.approval(OfferKind::Tool, "a", digest).unwrap_err(), NotApproved::OtherDigest);
    assert_eq!(inventory.approval(OfferKind::Tool, "b", digest).unwrap_err(), NotApproved::Unknown);
    inventory.approve(approval, 1);
    assert!(!inventory.is_approved(OfferKind::Tool, "a"), "it has changed since");
    assert!(observe(&inventory, r#"{"name":"a"}"#));
}

#[test]
fn a_saved_inventory_is_restored() {
    let memory = InventoryMemory::new(ENOUGH);
    let inventory = ToolInventory::new(&memory);
    observe(&inventory, r#"{"name":"a","description":"one"}"#);
    observe(&inventory, r#"{"name":"b"}"#);
    let _ = inventory.stamp(5);
    approve_all(&inventory, 6);
    observe(&inventory, r#"{"name":"a","description":"two"}"#);
    let _ = inventory.stamp(7);
    let text = serde_json::to_string(&inventory.records()).unwrap();
    let records: Vec<ToolRecord> = serde_json::from_str(&text).unwrap();
    let again = ToolInventory::restored(&memory, &records);
    assert_eq!(again.records(), inventory.records());
    assert!(again.is_approved(OfferKind::Tool, "b") && !again.is_approved(OfferKind::Tool, "a"));
    assert_eq!(records[0].standing(), ToolStanding::Changed);
    assert_eq!(
        records[0].approved.as_ref().unwrap().definition.as_deref(),
        Some(r#"{"description":"one","name":"a"}"#)
    );
    assert!(!observe(&again, r#"{"name":"a","description":"two"}"#) && !again.has_news());
    drop((inventory, again));
    assert_eq!(memory.left(), ENOUGH, "all memory is given back");
}

#[test]
fn the_inventory_is_bounded_and_evicts_unapproved_entries() {
    const MEMORY: usize = SERVER_LEN_MAX + 1_000;
    let memory = InventoryMemory::new(MEMORY);
    let inventory = ToolInventory::new(&memory);
    let long = "x".repeat(4_000);
    for nth in 0..INVENTORY_TOOLS_MAX + 100 {
        observe(&inventory, &format!(r#"{{"name":"{nth:05}","description":"{long}"}}"#));
    }
    let records = inventory.records();
    assert_eq!((records.len(), inventory.left_out()), (INVENTORY_TOOLS_MAX, 100));
    let texts = records.iter().filter(|record| record.definition.is_some()).count();
    assert!((400..520).contains(&texts), "{texts}");
    // Another server can use the remaining memory.
    let other = ToolInventory::new(&memory);
    observe(&other, r#"{"name":"a"}"#);
    assert_eq!(other.records().len(), 1);
    let kept = ToolDigest::parse(&records[0].digest).unwrap();
    let _ = inventory.stamp(1);
    inventory.approve(inventory.approval(OfferKind::Tool, &records[0].name, kept).unwrap(), 1);
    let _ = inventory.stamp(1 + FORGOTTEN_AFTER.as_millis() as i64 + 1);
    assert_eq!(inventory.records().len(), 1);
    observe(&inventory, &format!(r#"{{"name":"{}"}}"#, "n".repeat(NAME_LEN_MAX + 1)));
    assert_eq!(inventory.records().len(), 1);
    drop((inventory, other));
    assert_eq!(memory.left(), MEMORY);
}

#[test]
fn a_tool_that_is_described_at_length_is_known_by_its_digest() {
    let inventory = ToolInventory::new(&InventoryMemory::new(ENOUGH));
    observe(&inventory, &format!(r#"{{"name":"a","description":"{}"}}"#, "x".repeat(TEXT_LEN_MAX)));
    assert_eq!(inventory.records()[0].definition, None);
    approve_all(&inventory, 1);
    assert!(inventory.is_approved(OfferKind::Tool, "a"));
    assert!(!observe(&inventory, &format!(r#"{{"name":"a","description":"{}y"}}"#, "x".repeat(TEXT_LEN_MAX))));
}

#[test]
fn prompts_and_resources_are_kept_apart_and_pinned_by_their_visible_text() {
    let memory = InventoryMemory::new(ENOUGH);
    let inventory = ToolInventory::new(&memory);
    let see = |kind, name: &str, text: &str| inventory.observe(kind, name, &Value::of(text.as_bytes()).unwrap());
    let prompt = r#"{"name":"a","description":"asks","arguments":[{"name":"x","required":true}]}"#;
    let resource = r#"{"uri":"a:1","name":"one","mimeType":"text/plain","size":5,"annotations":{"priority":1,"lastModified":"2026"}}"#;
    let template = r#"{"uriTemplate":"a:{x}","name":"all"}"#;
    let tool = r#"{"name":"a","description":"adds"}"#;
    let all = [
        (OfferKind::Tool, "a", tool),
        (OfferKind::Prompt, "a", prompt),
        (OfferKind::Resource, "a:1", resource),
        (OfferKind::Template, "a:{x}", template),
    ];
    for (kind, name, text) in all {
        assert!(!see(kind, name, text), "{kind:?}");
    }
    let news = inventory.stamp(1);
    assert_eq!(news.iter().map(|news| news.kind).collect::<Vec<_>>(), OfferKind::ALL);
    approve_all(&inventory, 2);
    for (kind, name, text) in all {
        assert!(see(kind, name, text) && inventory.is_approved(kind, name), "{kind:?}");
    }
    assert!(!inventory.is_approved(OfferKind::Resource, "a") && inventory.has_template(|name| name == "a:{x}"));
    assert!(
        see(OfferKind::Resource, "a:1", &resource.replace("2026", "2027").replace(":5", ":6")),
        "its content is another"
    );
    for (kind, name, text) in [
        (OfferKind::Prompt, "a", prompt.replace("true", "false")),
        (OfferKind::Resource, "a:1", resource.replace("plain", "html")),
        (OfferKind::Resource, "a:1", resource.replace(":1,\"last", ":0,\"last")),
        (OfferKind::Template, "a:{x}", template.replace("all", "some")),
    ] {
        assert!(!see(kind, name, &text) && !inventory.is_approved(kind, name), "{text}");
    }
    // A file of an earlier version has tools only, and no kinds.
    let kept = serde_json::to_string(&inventory.records()).unwrap();
    let again = ToolInventory::restored(&memory, &serde_json::from_str::<Vec<ToolRecord>>(&kept).unwrap());
    assert_eq!(again.records(), inventory.records());
    let before =
        r#"[{"name":"a","digest":"DIGEST","first_seen_ms":1,"last_seen_ms":1}]"#.replace("DIGEST", &"0".repeat(64));
    let before: Vec<ToolRecord> = serde_json::from_str(&before).unwrap();
    assert_eq!(before[0].kind, OfferKind::Tool);
    assert!(!serde_json::to_string(&before).unwrap().contains("kind"));
}

#[test]
fn many_resources_leave_room_for_tools() {
    let inventory = ToolInventory::new(&InventoryMemory::new(16 << 20));
    for nth in 0..2 * INVENTORY_OTHERS_MAX {
        for kind in [OfferKind::Prompt, OfferKind::Resource, OfferKind::Template] {
            let name = format!("{nth:0200}");
            inventory.observe(kind, &name, &Value::of(b"{}").unwrap());
        }
    }
    for nth in 0..INVENTORY_TOOLS_MAX {
        observe(&inventory, &format!(r#"{{"name":"{nth:0200}"}}"#));
    }
    let tools = inventory.records().iter().filter(|record| record.kind == OfferKind::Tool).count();
    assert_eq!((tools, inventory.left_out()), (INVENTORY_TOOLS_MAX, 3 * INVENTORY_OTHERS_MAX as u64));
}
