use serde_json::{Map, Value};

use crate::process::COMMIT;

/// The text of `adit version`: version and commit, and `facts` about the running machine, such as the driver.
#[must_use]
pub fn version(facts: &[(&str, &str)], json: bool) -> String {
    let all = [("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)].into_iter().chain(facts.iter().copied());
    if json {
        let object: Map<String, Value> = all.map(|(name, fact)| (name.to_owned(), Value::from(fact))).collect();
        return format!("{}\n", Value::Object(object));
    }
    all.map(|(name, fact)| format!("{} {fact}\n", if name == "version" { "adit" } else { name })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_fact_a_line_or_one_object() {
        let text = version(&[("driver", "epoll")], false);
        assert!(text.starts_with(&format!("adit {}\ncommit ", env!("CARGO_PKG_VERSION"))), "{text}");
        assert!(text.ends_with("\ndriver epoll\n"), "{text}");
        let object: Value = serde_json::from_str(&version(&[("driver", "epoll")], true)).unwrap();
        assert_eq!(object["driver"], "epoll");
    }
}
