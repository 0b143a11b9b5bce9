//! Circles of imports between the files of one module: files that can only be understood together.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, is_name_byte};

/// A path of names from the crate's root, such as `config`, `load`.
type Names = Vec<String>;

/// The circles of more than `files_max` files in a module, each with the files in it.
pub(crate) fn circles(module: &str, files_max: usize, sources: &[Source]) -> Vec<Vec<String>> {
    let files: BTreeMap<Names, &Source> = sources
        .iter()
        .filter(|source| source.module() == Some(module))
        .map(|source| (own_path(source), source))
        .collect();
    let facades: BTreeMap<&Names, BTreeMap<String, Names>> =
        files.iter().map(|(own, source)| (own, re_exports(own, source, &files))).collect();
    let imports: BTreeMap<&Names, BTreeSet<Names>> = files
        .iter()
        .map(|(own, source)| {
            let found = imported(own, source).into_iter().filter_map(|path| file_of(&path, &files, &facades));
            (own, found.filter(|file| file != own).collect())
        })
        .collect();
    let reached: BTreeMap<&Names, BTreeSet<&Names>> =
        imports.keys().map(|file| (*file, reach(file, &imports))).collect();
    let circles: BTreeSet<BTreeSet<&Names>> = reached
        .iter()
        .map(|(one, others)| others.iter().copied().filter(|other| reached[*other].contains(*one)).collect())
        .collect();
    let large = circles.into_iter().filter(|circle| circle.len() > files_max);
    large.map(|circle| circle.into_iter().map(|file| files[file].path.clone()).collect()).collect()
}

/// The path of the module that a file is.
fn own_path(source: &Source) -> Names {
    let inside = source.path.strip_prefix("src/").unwrap_or(&source.path);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    inside.strip_suffix("/mod").unwrap_or(inside).split('/').map(str::to_owned).collect()
}

/// All files that are reached from a file over one import or more.
fn reach<'a>(from: &Names, imports: &'a BTreeMap<&Names, BTreeSet<Names>>) -> BTreeSet<&'a Names> {
    let (mut seen, mut open): (BTreeSet<&Names>, Vec<&Names>) = (BTreeSet::new(), imports[from].iter().collect());
    while let Some(file) = open.pop() {
        if seen.insert(file) {
            open.extend(&imports[file]);
        }
    }
    seen
}

/// The file that defines what a path names: a module that only re-exports it does not count.
fn file_of(
    path: &Names,
    files: &BTreeMap<Names, &Source>,
    facades: &BTreeMap<&Names, BTreeMap<String, Names>>,
) -> Option<Names> {
    let file = (1..=path.len()).rev().map(|len| path[..len].to_vec()).find(|prefix| files.contains_key(prefix))?;
    let item = path.get(file.len());
    Some(item.and_then(|item| facades[&file].get(item)).cloned().unwrap_or(file))
}

/// What a file re-exports of the files below it, by name.
fn re_exports(own: &Names, source: &Source, files: &BTreeMap<Names, &Source>) -> BTreeMap<String, Names> {
    let uses = source.find_in_code("use").filter(|at| source.code[..*at].trim_end().ends_with(['b', ')']));
    let paths = uses.flat_map(|at| tree(&source.code[at + "use".len()..]).0);
    let of_child = paths.filter_map(|path| {
        let within = |len: usize| [own.as_slice(), &path[..len]].concat();
        let child = (1..=path.len()).rev().map(within).find(|child| files.contains_key(child))?;
        Some((path.last()?.clone(), child))
    });
    of_child.collect()
}

/// The paths that a file names outside of its tests, from the crate's root.
fn imported(own: &Names, source: &Source) -> Vec<Names> {
    let mut found = Vec::new();
    for word in ["crate", "super", "self"] {
        // A visibility, such as `pub(in crate::m)`, imports nothing.
        let is_path = |before: &str| !before.ends_with("::") && !before.trim_end().ends_with("(in");
        let starts = source.find_in_code(word).filter(|at| is_path(&source.code[..*at]));
        let paths = starts
            .filter(|at| !source.is_for_tests_at(*at) && source.code[at + word.len()..].starts_with("::"))
            .flat_map(|at| tree(&source.code[at..]).0);
        found.extend(paths.filter_map(|path| from_root(own, path)));
    }
    found
}

fn from_root(own: &Names, path: Names) -> Option<Names> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&own[..0], &path[1..]),
        "self" => (&own[..], &path[1..]),
        _ => (own.get(..own.len().checked_sub(ups)?)?, &path[ups..]),
    };
    Some([base, rest].concat())
}

/// The paths of an import such as `a::{b, c::d}`, and how long it is.
fn tree(text: &str) -> (Vec<Names>, usize) {
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    if rest.starts_with('{') {
        let (mut paths, mut at) = (Vec::new(), 1);
        while at < rest.len() && !rest[at..].starts_with('}') {
            let (more, len) = tree(&rest[at..]);
            paths.extend(more);
            at += len;
            at += rest[at..].find([',', '}']).unwrap_or(rest.len() - at);
            at += usize::from(rest[at..].starts_with(','));
        }
        return (paths, start + at + 1);
    }
    let name: String = rest.bytes().take_while(|byte| is_name_byte(*byte)).map(char::from).collect();
    if name.is_empty() {
        return (vec![Vec::new()], start);
    }
    match rest[name.len()..].strip_prefix("::") {
        Some(below) => {
            let (paths, len) = tree(below);
            let paths = paths.into_iter().map(|path| [vec![name.clone()], path].concat()).collect();
            (paths, start + name.len() + "::".len() + len)
        }
        None => (vec![vec![name.clone()]], start + name.len()),
    }
}

#[test]
fn a_circle_is_seen_through_groups_super_and_re_exports_and_not_where_tests_close_it() {
    let found = |last: &str| {
        let sources = [
            Source::new("src/m/mod.rs", "mod a;\nmod b;\npub use a::{A, other::Name};"),
            Source::new("src/m/a.rs", "use crate::{base::Time, m::{b::B, c as d}};\npub struct A;"),
            Source::new("src/m/b.rs", "use super::c::{self, C};"),
            Source::new("src/m/c.rs", last),
        ];
        circles("m", 2, &sources)
    };
    assert_eq!(found("use crate::m::A;"), [["src/m/a.rs", "src/m/b.rs", "src/m/c.rs"]]);
    assert_eq!(found("fn f() { crate::m::a::f(); }"), [["src/m/a.rs", "src/m/b.rs", "src/m/c.rs"]]);
    assert_eq!(found("use crate::m::Missing; // crate::m::a"), [[""; 0]; 0]);
    assert_eq!(found("#[cfg(test)]\nmod tests { use crate::m::a::A; }"), [[""; 0]; 0]);
    assert_eq!(found("pub(in crate::m::a) struct C;"), [[""; 0]; 0]);
}

#[test]
fn a_re_export_from_two_folders_below_names_the_file_there() {
    let sources = [
        Source::new("src/m/mod.rs", "mod a;\nmod b;\npub use a::deep::A;"),
        Source::new("src/m/a/mod.rs", "pub mod deep;\nuse crate::m::b::B;"),
        Source::new("src/m/a/deep.rs", "pub struct A;"),
        Source::new("src/m/b.rs", "use crate::m::A;"),
    ];
    assert_eq!(circles("m", 1, &sources), [[""; 0]; 0]);
}
