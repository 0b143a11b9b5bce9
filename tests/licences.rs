//! Every dependency has a licence that `deny.toml` allows, and comes from a registry that it allows.
//!
//! Asked of cargo itself, so that the gate needs no further tool.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_dependency_has_a_licence_and_a_source_that_are_allowed() {
    let deny: toml::Table = toml::from_str(&read("deny.toml")).expect("deny.toml is TOML");
    let allowed = strings(&deny["licenses"]["allow"]);
    let registries = strings(&deny["sources"]["allow-registry"]);
    let packages: BTreeSet<Package> =
        strings(&deny["graph"]["targets"]).iter().flat_map(|target| packages_for(target)).collect();
    assert!(packages.len() > 20, "cargo named only {} packages", packages.len());

    let mut faults: Vec<String> =
        packages.iter().filter_map(|package| fault_of(package, &allowed, &registries)).collect();
    let named: BTreeSet<String> = packages.iter().flat_map(|package| tokens(&package.licence)).collect();
    let needless = allowed.iter().filter(|licence| !named.contains(*licence));
    faults.extend(needless.map(|licence| format!("deny.toml allows {licence}, which no dependency has; take it out")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn our_own_licence_is_the_one_that_lies_beside_it() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("Cargo.toml is TOML");
    assert_eq!(manifest["workspace"]["package"]["license"].as_str(), Some("MIT OR Apache-2.0"));
    assert!(read("LICENSE-MIT").contains("Permission is hereby granted, free of charge"));
    assert!(read("LICENSE-APACHE").contains("Version 2.0, January 2004"));
}

/// What is part of the program and no package: its licence lies beside it, with a table of where it came from.
#[test]
fn what_is_vendored_has_a_licence_that_is_allowed() {
    let deny: toml::Table = toml::from_str(&read("deny.toml")).expect("deny.toml is TOML");
    let table = read("src/control/dashboard/assets/uplot/README.md");
    let licence = table.lines().find_map(|line| line.strip_prefix("| licence | ")?.split([',', ' ']).next());
    assert!(is_allowed(licence.expect("the table names it"), &strings(&deny["licenses"]["allow"])));
    assert!(
        read("src/control/dashboard/assets/uplot/LICENSE").contains("Permission is hereby granted, free of charge")
    );
}

#[test]
fn an_expression_is_allowed_when_one_of_its_choices_is() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0"].map(str::to_owned).into();
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Zlib", "ISC AND (GPL-3.0 OR MIT)", "A WITH B OR MIT", "((MIT))"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 OR (MIT AND A)", "Apache-2.0 WITH B", "MIT OR", "(MIT", "MIT ISC"]
    {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn a_package_from_elsewhere_or_without_a_licence_is_seen() {
    let (allowed, registries) = (["MIT".to_owned()].into(), ["https://r".to_owned()].into());
    let package = |licence: &str, source: &str| Package {
        name: "x 1.0".to_owned(),
        licence: licence.to_owned(),
        source: Some(source.to_owned()),
    };
    assert_eq!(fault_of(&package("MIT", "registry+https://r"), &allowed, &registries), None);
    for bad in
        [package("MIT", "git+https://r"), package("MIT", "registry+https://s"), package("", "registry+https://r")]
    {
        assert!(fault_of(&bad, &allowed, &registries).is_some(), "{bad:?}");
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    licence: String,
    source: Option<String>,
}

/// The packages that the lock file brings in on one target, as cargo sees them.
fn packages_for(target: &str) -> Vec<Package> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--all-features", "--filter-platform", target];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(ROOT).output().expect("cargo can be run");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("cargo resolves");
    let used: BTreeSet<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().expect("cargo lists packages").iter();
    let used = packages.filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id)));
    used.map(|package| Package {
        name: format!("{} {}", text(&package["name"]), text(&package["version"])),
        licence: text(&package["license"]),
        source: package["source"].as_str().map(str::to_owned),
    })
    .collect()
}

fn fault_of(package: &Package, allowed: &BTreeSet<String>, registries: &BTreeSet<String>) -> Option<String> {
    let Package { name, licence, source } = package;
    let registry = source.as_ref().map(|source| source.strip_prefix("registry+").unwrap_or(source));
    if registry.is_some_and(|registry| !registries.contains(registry)) {
        return Some(format!("{name} comes from {}; only crates.io is allowed", source.as_deref().unwrap_or_default()));
    }
    let remedy = "do without it, or allow its licence in deny.toml and say why";
    (!is_allowed(licence, allowed)).then(|| format!("{name} is licensed '{licence}'; {remedy}"))
}

/// Whether a licence expression (SPDX, and the older `A/B` for `A OR B`) can be met by what is allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let tokens = tokens(expression);
    let mut at = 0;
    any_of(&tokens, &mut at, allowed) == Some(true) && at == tokens.len()
}

fn tokens(expression: &str) -> Vec<String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

fn any_of(tokens: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = all_of(tokens, at, allowed)?;
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        met |= all_of(tokens, at, allowed)?;
    }
    Some(met)
}

fn all_of(tokens: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = one(tokens, at, allowed)?;
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        met &= one(tokens, at, allowed)?;
    }
    Some(met)
}

fn one(tokens: &[String], at: &mut usize, allowed: &BTreeSet<String>) -> Option<bool> {
    let first = tokens.get(*at)?;
    *at += 1;
    if first == "(" {
        let met = any_of(tokens, at, allowed)?;
        let closed = tokens.get(*at).is_some_and(|token| token == ")");
        *at += 1;
        return closed.then_some(met);
    }
    if tokens.get(*at).is_some_and(|token| token == "WITH") {
        let with = format!("{first} WITH {}", tokens.get(*at + 1)?);
        *at += 2;
        return Some(allowed.contains(&with));
    }
    Some(allowed.contains(first))
}

fn read(file: &str) -> String {
    let path = format!("{ROOT}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn strings(list: &toml::Value) -> BTreeSet<String> {
    let items = list.as_array().expect("a list of strings").iter();
    items.map(|item| item.as_str().expect("a string").to_owned()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
