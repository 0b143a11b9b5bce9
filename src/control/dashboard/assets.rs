//! The files of the dashboard, which are part of the program, and the fields with which they and its answers are sent.

use axum::body::Bytes;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Response};

/// A file of the dashboard.
pub(super) struct Asset {
    /// The path under which browsers load it.
    pub(super) path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

/// What pages may do: load files of this origin and connect to it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The fields of every answer of the dashboard.
const FIELDS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// All files that browsers load.
pub(super) const ASSETS: &[Asset] = &[
    Asset { path: "/", media_type: HTML, content: include_str!("assets/index.html") },
    Asset { path: "/dashboard/style.css", media_type: STYLE, content: include_str!("assets/style.css") },
    Asset { path: "/dashboard/icon.svg", media_type: ICON, content: include_str!("assets/icon.svg") },
    Asset { path: "/dashboard/chart.js", media_type: SCRIPT, content: include_str!("assets/chart.js") },
    Asset { path: "/dashboard/dom.js", media_type: SCRIPT, content: include_str!("assets/dom.js") },
    Asset { path: "/dashboard/format.js", media_type: SCRIPT, content: include_str!("assets/format.js") },
    Asset { path: "/dashboard/main.js", media_type: SCRIPT, content: include_str!("assets/main.js") },
    Asset { path: "/dashboard/session.js", media_type: SCRIPT, content: include_str!("assets/session.js") },
    Asset { path: "/dashboard/store.js", media_type: SCRIPT, content: include_str!("assets/store.js") },
    Asset { path: "/dashboard/views/audit.js", media_type: SCRIPT, content: include_str!("assets/views/audit.js") },
    Asset { path: "/dashboard/views/calls.js", media_type: SCRIPT, content: include_str!("assets/views/calls.js") },
    Asset {
        path: "/dashboard/views/certificates.js",
        media_type: SCRIPT,
        content: include_str!("assets/views/certificates.js"),
    },
    Asset { path: "/dashboard/views/doctor.js", media_type: SCRIPT, content: include_str!("assets/views/doctor.js") },
    Asset { path: "/dashboard/views/links.js", media_type: SCRIPT, content: include_str!("assets/views/links.js") },
    Asset {
        path: "/dashboard/views/overview.js",
        media_type: SCRIPT,
        content: include_str!("assets/views/overview.js"),
    },
    Asset { path: "/dashboard/views/policy.js", media_type: SCRIPT, content: include_str!("assets/views/policy.js") },
    Asset { path: "/dashboard/views/tools.js", media_type: SCRIPT, content: include_str!("assets/views/tools.js") },
    Asset { path: "/dashboard/uplot.js", media_type: SCRIPT, content: include_str!("assets/uplot/uPlot.iife.min.js") },
    Asset { path: "/dashboard/uplot.css", media_type: STYLE, content: include_str!("assets/uplot/uPlot.min.css") },
];

impl Asset {
    pub(super) fn response(&self) -> Response {
        ([(CONTENT_TYPE, self.media_type)], Bytes::from_static(self.content.as_bytes())).into_response()
    }
}

/// Adds the fields of every answer of the dashboard.
pub(super) fn protect(mut response: Response) -> Response {
    for (name, value) in FIELDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::base::{hex, sha256};

    /// The most bytes of all files together.
    const LEN_MAX: usize = 150 * 1024;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control/dashboard/assets")
    }

    fn own() -> impl Iterator<Item = &'static Asset> {
        ASSETS.iter().filter(|asset| !asset.path.contains("uplot"))
    }

    #[test]
    fn the_files_are_small_and_all_of_the_folder() {
        let len: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(len <= LEN_MAX, "{len} bytes");
        let (mut open, mut files) = (vec![folder()], 0);
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                match path.is_dir() {
                    true => open.push(path),
                    false => {
                        files += usize::from(!path.ends_with("uplot/LICENSE") && !path.ends_with("uplot/README.md"))
                    }
                }
            }
        }
        assert_eq!(files, ASSETS.len(), "each file of the folder is served, and no other");
    }

    #[test]
    fn texts_of_others_never_become_markup_and_nothing_is_loaded_from_elsewhere() {
        const FORBIDDEN: [&str; 17] = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "createContextualFragment",
            "DOMParser",
            "srcdoc",
            "eval(",
            "Function(",
            "setTimeout(\"",
            "javascript:",
            "http://",
            "https://",
            "@import",
            "url(",
            "style=\"",
            "onclick=",
        ];
        for asset in own() {
            for word in FORBIDDEN {
                let found = asset.content.replace("http://www.w3.org/2000/svg", "").contains(word);
                assert!(!found, "{} contains {word}", asset.path);
            }
        }
        let page = ASSETS[0].content;
        assert!(!page.contains("<style") && !page.contains("<script>"), "nothing is inline");
    }

    #[test]
    fn the_library_for_charts_is_the_published_one_and_its_licence_lies_beside_it() {
        let notes = fs::read_to_string(folder().join("uplot/README.md")).unwrap();
        for file in ["uPlot.iife.min.js", "uPlot.min.css"] {
            let digest = hex(&sha256(&fs::read(folder().join("uplot").join(file)).unwrap()));
            assert!(notes.contains(&format!("| SHA-256 of `{file}` | `{digest}` |")), "{file}: {digest}");
        }
        let licence = fs::read_to_string(folder().join("uplot/LICENSE")).unwrap();
        assert!(licence.contains("The MIT License (MIT)") && licence.contains("Leon Sorokin"), "{licence}");
        let version = notes.lines().find_map(|line| line.strip_prefix("| version | ")?.strip_suffix(" |")).unwrap();
        assert!(ASSETS.iter().any(|asset| asset.content.contains(&format!("(v{version})"))), "{version}");
    }
}
