//! The description of a peer: one small embedded data file each.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The peers' files, in the order in which they are run and shown.
const FILES: &[(&str, &str)] = &[
    ("direct", include_str!("../../peers/direct.toml")),
    ("adit", include_str!("../../peers/adit.toml")),
    ("haproxy", include_str!("../../peers/haproxy.toml")),
    ("nginx", include_str!("../../peers/nginx.toml")),
    ("rathole", include_str!("../../peers/rathole.toml")),
    ("rathole-noise", include_str!("../../peers/rathole-noise.toml")),
    ("frp", include_str!("../../peers/frp.toml")),
    ("bore", include_str!("../../peers/bore.toml")),
    ("chisel", include_str!("../../peers/chisel.toml")),
    ("wstunnel", include_str!("../../peers/wstunnel.toml")),
    ("cloudflared", include_str!("../../peers/cloudflared.toml")),
    ("tunnel-client", include_str!("../../peers/tunnel-client.toml")),
];

/// The peer to which the others are compared.
pub(crate) const DIRECT: &str = "direct";

/// adit itself, as shipped.
pub(crate) const ADIT: &str = "adit";

/// A path from an agent to the upstream that can be measured.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The name for `--peers`.
    pub(crate) name: String,
    /// The template values that differ between the peers of one file.
    pub(crate) values: BTreeMap<String, String>,
    /// The content of its file.
    pub(crate) file: PeerFile,
}

/// A file of `loadtest/peers/`. Texts of files, arguments and environment are templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerFile {
    /// A description in a few words.
    pub(crate) summary: String,
    /// The kind, because only peers of one kind are comparable.
    pub(crate) kind: Kind,
    /// The licence, as an SPDX expression.
    pub(crate) licence: String,
    /// The home page of the peer.
    pub(crate) home: String,
    /// How a user installs it.
    pub(crate) install: String,
    /// Whether the agent connects with TLS.
    pub(crate) agent_tls: bool,
    /// Whether the hop between its two processes is encrypted.
    pub(crate) link_encrypted: bool,
    /// The encryption of each hop, in words.
    pub(crate) encrypts: String,
    /// Why it cannot be measured, if its other side is a vendor's service.
    #[serde(default)]
    pub(crate) no_far_side: Option<String>,
    /// The names of ports to choose; the load goes to `agents`.
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    /// Ports that cannot be configured.
    #[serde(default)]
    pub(crate) fixed_ports: BTreeMap<String, u16>,
    /// The peers of this file; without variants there is one, with the file's name.
    #[serde(default, rename = "variant")]
    pub(crate) variants: Vec<Variant>,
    /// The programs that it needs.
    #[serde(default, rename = "program")]
    pub(crate) programs: Vec<Program>,
    /// Files that are written before it starts.
    #[serde(default, rename = "file")]
    pub(crate) files: Vec<ConfigFile>,
    /// Its processes, in the order of their start.
    #[serde(default, rename = "process")]
    pub(crate) processes: Vec<ProcessPlan>,
}

/// The kind of a peer. Only peers of one kind are ranked together.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The upstream itself, called without a tunnel.
    #[default]
    Baseline,
    /// Two proxies in a row; the first dials the second.
    Hops,
    /// Two processes; the inner one dials the outer one.
    Tunnel,
}

/// One of several peers that a file describes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) values: BTreeMap<String, String>,
}

/// A program that a peer needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// The file name of the program.
    pub(crate) name: String,
    /// The arguments that print its version.
    pub(crate) version_args: Vec<String>,
    /// The start of the line with the version, if that is not the first line.
    #[serde(default)]
    pub(crate) version_line: Option<String>,
}

/// A file that a peer reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A process of a peer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessPlan {
    /// Its role, such as `client`.
    pub(crate) name: String,
    /// The name of one of the file's programs.
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// The port that must accept connections before the next process starts.
    #[serde(default)]
    pub(crate) listens: Option<String>,
}

/// How much of the path from agent to upstream is encrypted. Peers of different cover do different work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cover {
    /// TLS from the agent and on the link.
    Full,
    /// TLS on the link only.
    Link,
    /// No encryption at all.
    None,
}

/// The error for an unknown peer.
#[derive(Debug, thiserror::Error)]
#[error("no peer is called '{name}'; there are {known}")]
pub(crate) struct UnknownPeer {
    name: String,
    known: String,
}

impl Peer {
    /// All peers that are described.
    pub(crate) fn all() -> Vec<Self> {
        FILES.iter().flat_map(|(stem, text)| Self::of_file(stem, text)).collect()
    }

    /// The peers with these names, in this order and without duplicates.
    ///
    /// # Errors
    ///
    /// If a name is unknown.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, UnknownPeer> {
        let all = Self::all();
        let mut chosen: Vec<Self> = Vec::new();
        for name in names {
            if chosen.iter().any(|peer| peer.name == name) {
                continue;
            }
            let Some(peer) = all.iter().find(|peer| peer.name == name) else {
                let known: Vec<&str> = all.iter().map(|peer| peer.name.as_str()).collect();
                return Err(UnknownPeer { name: name.to_owned(), known: known.join(", ") });
            };
            chosen.push(peer.clone());
        }
        Ok(chosen)
    }

    fn of_file(stem: &str, text: &str) -> Vec<Self> {
        let file: PeerFile = toml::from_str(text).unwrap_or_else(|e| panic!("peers/{stem}.toml is embedded: {e}"));
        if file.variants.is_empty() {
            return vec![Self { name: stem.to_owned(), values: BTreeMap::new(), file }];
        }
        let variant = |Variant { name, summary, values }: &Variant| {
            let file = PeerFile { summary: summary.clone(), ..file.clone() };
            Self { name: name.clone(), values: values.clone(), file }
        };
        file.variants.iter().map(variant).collect()
    }
}

impl Cover {
    pub(crate) fn of(agent_tls: bool, link_encrypted: bool) -> Self {
        match (agent_tls, link_encrypted) {
            (true, _) => Self::Full,
            (false, true) => Self::Link,
            (false, false) => Self::None,
        }
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "agent, link",
            Self::Link => "link",
            Self::None => "nothing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_file_parses_and_is_whole() {
        let peers = Peer::all();
        for peer in &peers {
            let (name, file) = (&peer.name, &peer.file);
            assert!(!file.licence.is_empty() && !file.install.is_empty() && !file.encrypts.is_empty(), "{name}");
            let programs: Vec<&str> = file.programs.iter().map(|program| program.name.as_str()).collect();
            for process in &file.processes {
                assert!(programs.contains(&process.program.as_str()), "{name}: {}", process.program);
                let known = |port: &String| file.ports.contains(port) || file.fixed_ports.contains_key(port);
                assert!(process.listens.as_ref().is_none_or(known), "{name}: {:?}", process.listens);
            }
            match file.kind {
                Kind::Baseline => assert!(file.processes.is_empty()),
                _ if file.no_far_side.is_some() => assert!(file.processes.is_empty(), "{name}"),
                Kind::Hops | Kind::Tunnel => {
                    assert_eq!(file.processes.len(), 2, "{name}: one for each side");
                    assert!(file.ports.iter().any(|port| port == "agents"), "{name}");
                }
            }
        }
        let mut names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert!(names.contains(&DIRECT) && names.contains(&ADIT));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), peers.len(), "the names are unique");
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("the file is readable").file_name().into_string().expect("plain names"))
            .collect();
        found.sort();
        let mut embedded: Vec<String> = FILES.iter().map(|(stem, _)| format!("{stem}.toml")).collect();
        embedded.sort();
        assert_eq!(found, embedded);
    }

    #[test]
    fn peers_are_found_by_name_each_once() {
        let chosen = Peer::named(["rathole", "adit-epoll-park", "rathole"]).expect("two known peers");
        let names: Vec<&str> = chosen.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["rathole", "adit-epoll-park"]);
        assert_eq!(chosen[1].values["driver"], "epoll");
        let error = Peer::named(["ratholes"]).expect_err("there is none").to_string();
        assert!(error.contains("'ratholes'") && error.contains("rathole-noise"), "{error}");
    }

    #[test]
    fn cover_shows_the_encrypted_hops() {
        let cover = |name| {
            let file = &Peer::named([name]).expect("a known peer")[0].file;
            Cover::of(file.agent_tls, file.link_encrypted)
        };
        assert_eq!(cover("adit"), Cover::Full);
        assert_eq!(cover("rathole-noise"), Cover::Link);
        assert_eq!(cover("rathole"), Cover::None);
    }
}
