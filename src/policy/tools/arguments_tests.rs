use super::*;
use crate::base::Rng;

fn schema(text: &str) -> ArgumentSchema {
    ArgumentSchema::parse(&serde_json::from_str(text).unwrap()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn faults(text: &str) -> String {
    ArgumentSchema::parse(&serde_json::from_str(text).unwrap()).unwrap_err().join("\n")
}

/// The result for these arguments: `+`, `-` with the reason, or `?` if they have more than one reading.
fn checked(schema: &ArgumentSchema, arguments: &str) -> String {
    checked_message(schema, &format!(r#"{{"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#))
}

fn checked_message(schema: &ArgumentSchema, message: &str) -> String {
    match schema.check_message(message.as_bytes()) {
        Ok(()) => "+".to_owned(),
        Err(Misfit::Unreadable) => "?".to_owned(),
        Err(Misfit::Wrong(why)) => format!("-{why}"),
    }
}

const REFUND: &str = r#"{"required": ["amount"], "properties": {
    "amount": {"maximum": 500, "exclusiveMinimum": 0},
    "currency": {"enum": ["EUR", "USD", 7, true]},
    "note": {"maxLength": 5, "pattern": "^[a-z]*$"},
    "lines": {"maxItems": 2, "items": {"type": "integer", "minimum": 1}},
    "to": {"properties": {"country": {"const": "DE"}}, "required": ["country"], "additionalProperties": false}
}}"#;

#[test]
fn arguments_that_satisfy_the_schema_pass() {
    let schema = schema(REFUND);
    for good in [
        r#"{"amount": 500}"#,
        r#"{"amount": 5e2, "other": {"amount": 9999}}"#,
        r#"{ "amount" : 0.01 , "currency":"EUR"}"#,
        r#"{"\u0061mount": 3, "currency": 7.0}"#,
        r#"{"amount": 3, "currency": true, "note": "", "lines": []}"#,
        r#"{"amount": 3, "note": "\u0061bc", "lines": [1, 2.0]}"#,
        r#"{"amount": 3, "to": {"country": "D\u0045"}}"#,
    ] {
        assert_eq!(checked(&schema, good), "+", "{good}");
    }
}

#[test]
fn arguments_that_violate_the_schema_are_refused_with_a_reason() {
    let schema = schema(REFUND);
    for (bad, why) in [
        ("{}", "amount is missing"),
        ("null", "arguments must be of type object"),
        ("[1]", "arguments must be of type object"),
        (r#"{"amount": 500.01}"#, "amount is a number out of the allowed range"),
        (r#"{"amount": 1e400}"#, "amount is a number out of the allowed range"),
        (r#"{"amount": 0}"#, "amount is a number out of the allowed range"),
        (r#"{"amount": -0}"#, "amount is a number out of the allowed range"),
        (r#"{"amount": -1e400}"#, "amount is a number out of the allowed range"),
        // The standard accepts these values, and servers read them as numbers.
        (r#"{"amount": "9999"}"#, "amount must be of type number"),
        (r#"{"amount": [9999]}"#, "amount must be of type number"),
        (r#"{"amount": null}"#, "amount must be of type number"),
        (r#"{"amount": true}"#, "amount must be of type number"),
        (r#"{"amount": 1, "currency": "eur"}"#, "currency has a value that is not allowed"),
        (r#"{"amount": 1, "currency": ["EUR"]}"#, "currency has a value that is not allowed"),
        (r#"{"amount": 1, "note": "abcdef"}"#, "note has a length that is not allowed"),
        (r#"{"amount": 1, "note": "a\n"}"#, "note has a format that is not allowed"),
        (r#"{"amount": 1, "lines": [1, 0]}"#, "lines[1] is a number out of the allowed range"),
        (r#"{"amount": 1, "lines": [1.5]}"#, "lines[0] must be of type integer"),
        (r#"{"amount": 1, "lines": [1, 1, 1]}"#, "lines has a number of items that is not allowed"),
        (r#"{"amount": 1, "to": {}}"#, "to.country is missing"),
        (r#"{"amount": 1, "to": {"country": "DE", "x": 1}}"#, "to may have no other members than: country"),
    ] {
        assert_eq!(checked(&schema, bad), format!("-{why}"), "{bad}");
    }
    assert_eq!(checked_message(&schema, r#"{"method":"tools/call","params":{"name":"t"}}"#), "-amount is missing");
    assert_eq!(checked_message(&schema, r#"{"method":"tools/call"}"#), "-amount is missing");
}

#[test]
fn ambiguous_arguments_are_refused() {
    let schema = schema(REFUND);
    let deep = format!(r#"{{"amount": 1, "x": {}{}}}"#, "[".repeat(200), "]".repeat(200));
    for bad in [
        r#"{"amount": 1, "amount": 9999}"#,
        r#"{"amount": 1, "Amount": 9999}"#,
        r#"{"AMOUNT": 9999}"#,
        r#"{"amount": 1, "\u0061mount": 9999}"#,
        // Go folds U+017F to s.
        "{\"amount\": 1, \"line\u{17f}\": [0]}",
        r#"{"amount": 1, "to": {"country": "DE", "Country": "US"}}"#,
        r#"{"amount": 500.00000000000000000001}"#,
        r#"{"amount": 1e-400}"#,
        r#"{"amount": NaN}"#,
        r#"{"amount": -Infinity}"#,
        r#"{"amount": 01}"#,
        r#"{"amount": 0x1}"#,
        r#"{"amount": 1_0}"#,
        r#"{"amount": tru}"#,
        r#"{"amount": 1, "note": "\ud800"}"#,
        r#"{"amount": 1, "note": "\q"}"#,
        r#"{"amount": 1,}"#,
        &deep,
    ] {
        assert_eq!(checked(&schema, bad), "?", "{bad}");
    }
    let two = r#"{"params":{"arguments":{"amount":1},"arguments":{"amount":9999}}}"#;
    assert_eq!(checked_message(&schema, two), "?");
    let two = r#"{"params":{"arguments":{"amount":1},"Arguments":{"amount":9999}}}"#;
    assert_eq!(checked_message(&schema, two), "?");
}

/// Arguments that `serde_json` or Go reads as an amount above the limit are refused.
#[test]
fn no_text_passes_that_a_server_reads_as_more() {
    let schema = schema(r#"{"properties": {"amount": {"minimum": 0, "maximum": 500}}, "required": ["amount"]}"#);
    let mut rng = Rng::new(21);
    let (mut passed, mut refused) = (0, 0);
    const NAMES: [&str; 6] = ["amount", "\\u0061mount", "Amount", "amoun\\u0074", "x", "amount "];
    const VALUES: [&str; 12] = [
        "1",
        "500",
        "501",
        "5e2",
        "5.001e2",
        "1e400",
        "-0",
        "-1",
        "\"501\"",
        "[501]",
        "{\"amount\":501}",
        "499.9999999999999999999",
    ];
    for _ in 0..20_000 {
        let member = |rng: &mut Rng| {
            let name = NAMES[rng.below(NAMES.len() as u64) as usize];
            format!("\"{name}\":{}", VALUES[rng.below(VALUES.len() as u64) as usize])
        };
        let members: Vec<String> = (0..rng.between(1, 3)).map(|_| member(&mut rng)).collect();
        let text = format!("{{{}}}", members.join(","));
        if checked(&schema, &text) != "+" {
            refused += 1;
            continue;
        }
        passed += 1;
        // Such a server answers with an error.
        let Ok(read) = serde_json::from_str::<serde_json::Map<String, Json>>(&text) else { continue };
        for (name, value) in &read {
            if name.eq_ignore_ascii_case("amount") {
                assert!(value.as_f64().is_some_and(|amount| (0.0..=500.0).contains(&amount)), "{text}");
            }
        }
        assert!(read.contains_key("amount"), "{text}");
    }
    assert!(passed > 500 && refused > 5_000, "{passed} passed, {refused} refused");
}

#[test]
fn all_faults_of_a_schema_are_reported() {
    assert!(
        faults(r#"{"properties": {"a": {"maximim": 5}}}"#)
            .contains("arguments.properties.a.maximim is not checked by adit")
    );
    assert!(faults(r#"{"properties": {"a": {"$ref": "https://a.test/b"}}}"#).contains("$ref is not checked"));
    for (text, why) in [
        (r#"{"properties": {"a": {"maximum": "5"}}}"#, "arguments.properties.a.maximum must be a number"),
        (r#"{"properties": {"a": {"maxLength": -5}}}"#, "maxLength must be a whole number"),
        (r#"{"properties": {"a": {"pattern": "("}}}"#, "is no regular expression"),
        (r#"{"properties": {"a": {"pattern": "(?=a)"}}}"#, "is no regular expression"),
        (r#"{"properties": {"a": {"pattern": "(a{1000}){1000}"}}}"#, "is no regular expression"),
        (r#"{"properties": {"a": {"type": "text"}}}"#, "must be one or more of null or boolean"),
        (r#"{"properties": {"a": {"type": "string", "maximum": 5}}}"#, "none of its keywords is about the type string"),
        (r#"{"properties": {"a": {"minimum": 5, "maximum": 4}}}"#, "no value is within these limits"),
        (r#"{"properties": {"a": {"minimum": 5, "exclusiveMaximum": 5}}}"#, "no value is within these limits"),
        (r#"{"properties": {"a": {"exclusiveMinimum": 5, "maximum": 5}}}"#, "no value is within these limits"),
        (r#"{"properties": {"a": {"minItems": 5, "maxItems": 4}}}"#, "no value is within these limits"),
        (r#"{"properties": {"a": {"enum": []}}}"#, "must be a list of 1 to 1000 values"),
        (r#"{"properties": {"a": {"enum": [[1]]}}}"#, "can have texts, numbers, true and false"),
        (r#"{"properties": {"a": 5}}"#, "must be a table with keywords"),
        (r#"{"properties": 5}"#, "must be a table of names"),
        (r#"{"required": [5]}"#, "must be a list of names"),
        (r#"{"additionalProperties": {"type": "string"}}"#, "must be true or false"),
        (r#"{"maximum": 5}"#, "arguments are an object"),
    ] {
        assert!(faults(text).contains(why), "{text}: {}", faults(text));
    }
    schema(r#"{"properties": {"a": {"minimum": 5, "maximum": 5, "type": ["integer", "null"], "description": "x"}}}"#);
    let deep = (0..20).fold("{}".to_owned(), |inner, _| format!(r#"{{"properties":{{"a":{inner}}}}}"#));
    assert!(faults(&deep).contains("nested up to 16 deep"));
    let wide: Vec<String> = (0..600).map(|nth| format!(r#""a{nth}":{{}}"#)).collect();
    assert_eq!(faults(&format!(r#"{{"properties":{{{}}}}}"#, wide.join(","))).lines().count(), 1);
}

#[test]
fn a_name_in_another_case_is_seen_in_any_script() {
    let wanted = schema(r#"{"properties": {"größe": {"maximum": 5}, "σ": {"maximum": 5}, "kiss": {"maximum": 5}}}"#);
    assert_eq!(checked(&wanted, r#"{"größe": 1, "σ": 2, "kiss": 3, "große": 99}"#), "+");
    assert!(checked(&wanted, r#"{"größe": 99}"#).starts_with("-größe "));
    for other in ["grÖße", "GRÖSSE", "GRÖẞE", "gröſſe", "Σ", "ς", "KISS", "\u{212a}iſs"] {
        assert_eq!(checked(&wanted, &format!(r#"{{"{other}": 99}}"#)), "?", "{other}");
        assert_eq!(checked(&wanted, &format!(r#"{{"größe": 1, "σ": 1, "kiss": 1, "{other}": 99}}"#)), "?", "{other}");
    }
}

#[test]
fn values_of_long_lists_are_found_and_no_others() {
    let numbers: Vec<String> = (0..999).rev().map(|nth| format!("{}", f64::from(nth * 3) / 2.0)).collect();
    let wanted =
        schema(&format!(r#"{{"properties": {{"a": {{"items": {{"enum": [{}, "x"]}}}}}}}}"#, numbers.join(",")));
    for (value, want) in [
        ("0", "+"),
        ("1.5", "+"),
        ("1497", "+"),
        ("15e2", "-"),
        ("1", "-"),
        ("-1.5", "-"),
        ("\"x\"", "+"),
        ("\"1.5\"", "-"),
        ("true", "-"),
        ("1.50000000000000000001", "?"),
    ] {
        assert!(checked(&wanted, &format!(r#"{{"a": [3, {value}]}}"#)).starts_with(want), "{value}");
    }
    // As long as a body may be: the values are not compared with the list one by one.
    let long = vec!["1497"; 13_000].join(",");
    assert_eq!(checked(&wanted, &format!(r#"{{"a": [{long}]}}"#)), "+");
}
