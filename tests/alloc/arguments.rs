//! What is checked of arguments costs no more memory than the arguments have bytes, however much a rule says of them.

use adit::policy::{Asked, RoleSet, ToolPolicy};

use crate::counting::allocations;

#[test]
fn many_small_objects_are_checked_without_an_allocation_for_each_name_of_the_rule() {
    let names: Vec<String> = (0..400).map(|nth| format!("Name{nth} = {{ maximum = 5 }}")).collect();
    let text = format!(
        "[[rule]]\nname = 'r'\neffect = 'allow'\ntools = ['t']\n[rule.arguments.properties.list.items.properties]\n{}\n",
        names.join("\n")
    );
    let policy = ToolPolicy::parse(&text).unwrap();
    let asked = Asked::tool("t");
    for (item, of_item) in [("{}", 0), (r#"{"a":1}"#, 1), (r#"{"Name1":5}"#, 4)] {
        let items = vec![item; 4_000].join(",");
        let message = format!(r#"{{"method":"tools/call","params":{{"name":"t","arguments":{{"list":[{items}]}}}}}}"#);
        let decision = policy.decide(RoleSet::default(), &asked);
        let before = allocations();
        assert!(policy.check_arguments(decision, &asked, message.as_bytes()).unwrap().is_allowed());
        let made = allocations() - before;
        assert!(made <= of_item * 4_000 + 50, "{item}: {made} allocations for 4,000 items");
    }
}
