//! The subject of a certificate as text that is unique for each subject (RFC 4514).

use std::fmt::Write;

use x509_parser::oid_registry::Oid;
use x509_parser::x509::X509Name;

/// Attribute types and their names (RFC 4514 section 3). Other types are written as numbers.
const TYPES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The attributes of a subject that roles can use, by claim name. None if one of them is not text.
pub(super) fn attributes<'a>(subject: &'a X509Name<'_>) -> Option<Vec<(&'static str, &'a str)>> {
    let mut found = Vec::new();
    for attribute in subject.iter_attributes() {
        let name = match type_of(attribute.attr_type()).as_str() {
            "CN" => "common_name",
            "O" => "organization",
            "OU" => "organizational_unit",
            _ => continue,
        };
        found.push((name, attribute.as_str().ok()?));
    }
    Some(found)
}

/// The whole subject, most specific part first. None if a part is not text.
pub(super) fn subject_text(subject: &X509Name<'_>) -> Option<String> {
    let mut text = String::new();
    for (nth, part) in subject.iter().collect::<Vec<_>>().into_iter().rev().enumerate() {
        for (nth_of_part, attribute) in part.iter().enumerate() {
            match (nth, nth_of_part) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            text.push_str(&type_of(attribute.attr_type()));
            text.push('=');
            write_value(attribute.as_str().ok()?, &mut text);
        }
    }
    Some(text)
}

fn type_of(oid: &Oid<'_>) -> String {
    let number = oid.to_id_string();
    TYPES.iter().find(|(known, _)| *known == number).map_or(number, |(_, name)| (*name).to_owned())
}

/// Escapes a value, so that it cannot be parsed as several (RFC 4514 section 2.4).
fn write_value(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, symbol) in value.chars().enumerate() {
        let at_an_end = (symbol == ' ' && (at == 0 || at == last)) || (symbol == '#' && at == 0);
        if symbol.is_control() {
            let mut bytes = [0; 4];
            for byte in symbol.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
            continue;
        }
        if at_an_end || "\"+,;<>=\\".contains(symbol) {
            text.push('\\');
        }
        text.push(symbol);
    }
}
