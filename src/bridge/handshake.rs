//! The first exchange with a server: `initialize` in one era, `server/discover` in the other.

use crate::bridge::json_text::{JsonObject, quoted};
use crate::bridge::message::{
    META_CAPABILITIES, META_CLIENT, META_REVISION, META_SERVER, MODERN_REVISION, SESSION_REVISIONS, request,
};
use crate::bridge::modern_call::UNNAMED_CLIENT;

/// What a server is called that does not say.
const UNNAMED_SERVER: &[u8] = br#"{"name":"unknown","version":"unknown"}"#;

/// How the bridge calls itself where it asks on its own account.
const OWN_NAME: &[u8] = concat!(r#"{"name":"adit","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#).as_bytes();

/// What a server with sessions has answered to `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSession {
    /// The revision that was agreed.
    pub revision: String,
    /// Its capabilities, as JSON text.
    pub capabilities: Vec<u8>,
    /// Who it says that it is, as JSON text.
    server: Vec<u8>,
    /// Its instructions, as JSON text.
    instructions: Option<Vec<u8>>,
}

/// What a server without sessions has answered to `server/discover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOffer {
    /// Its capabilities, as JSON text.
    pub capabilities: Vec<u8>,
    server: Vec<u8>,
    instructions: Option<Vec<u8>>,
}

/// The request that opens a session for an agent with these capabilities.
#[must_use]
pub fn initialize_request(id: &[u8], capabilities: &[u8], client: &[u8]) -> Vec<u8> {
    // Extensions are negotiated in the newer revision only.
    let capabilities = JsonObject::read(capabilities).map(|all| all.edited(&[("extensions", None)]));
    let parts = [
        b"{\"protocolVersion\":",
        &quoted(SESSION_REVISIONS[0])[..],
        b",\"capabilities\":",
        capabilities.as_deref().unwrap_or(b"{}"),
        b",\"clientInfo\":",
        client,
        b"}",
    ];
    request(id, "initialize", &parts.concat())
}

/// The request with which the bridge finds out whether a server speaks with sessions.
#[must_use]
pub fn own_initialize() -> Vec<u8> {
    initialize_request(b"0", b"{}", OWN_NAME)
}

/// The request with which the bridge finds out whether a server speaks without sessions, and what it offers.
#[must_use]
pub fn own_discover() -> Vec<u8> {
    let meta = meta_members(OWN_NAME, b"{}");
    request(b"0", "server/discover", &[b"{\"_meta\":{", &meta[..], b"}}"].concat())
}

/// The members of `_meta` that every request of 2026-07-28 has.
pub(super) fn meta_members(client: &[u8], capabilities: &[u8]) -> Vec<u8> {
    let pair = |key: &str, value: &[u8]| [&quoted(key), &b":"[..], value].concat();
    let pairs = [
        pair(META_REVISION, &quoted(MODERN_REVISION)),
        pair(META_CLIENT, client),
        pair(META_CAPABILITIES, capabilities),
    ];
    pairs.join(&b","[..])
}

impl ServerSession {
    /// Reads the answer to `initialize`; none if it is an error, or of a revision that the bridge does not know.
    #[must_use]
    pub fn read(answer: &[u8]) -> Option<ServerSession> {
        let result = JsonObject::read(answer)?.get_object("result")?;
        let revision = result.get_text("protocolVersion")?;
        Some(ServerSession {
            capabilities: result.get("capabilities").filter(|all| all.starts_with(b"{"))?.to_vec(),
            server: result.get("serverInfo").unwrap_or(UNNAMED_SERVER).to_vec(),
            instructions: result.get("instructions").map(<[u8]>::to_vec),
            revision: Some(revision).filter(|revision| SESSION_REVISIONS.contains(&revision.as_str()))?,
        })
    }

    /// The result of `server/discover` for an agent. It must not be kept by others, as it may depend on the caller.
    #[must_use]
    pub fn discover_result(&self) -> Vec<u8> {
        let capabilities = JsonObject::read(&self.capabilities).map(|all| all.edited(&[("tasks", None)]));
        let instructions =
            self.instructions.as_ref().map(|text| [b"\"instructions\":", &text[..], b","].concat()).unwrap_or_default();
        let parts = [
            &b"{\"resultType\":\"complete\",\"supportedVersions\":["[..],
            &quoted(MODERN_REVISION),
            b"],\"capabilities\":",
            capabilities.as_deref().unwrap_or(b"{}"),
            b",",
            &instructions,
            b"\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{",
            &quoted(META_SERVER),
            b":",
            &self.server,
            b"}}",
        ];
        parts.concat()
    }

    /// Whether the server declares this capability, and this part of it if one is named.
    #[must_use]
    pub fn offers(&self, capability: &str, part: Option<&str>) -> bool {
        offers(&self.capabilities, capability, part)
    }
}

impl ServerOffer {
    /// Reads the answer to `server/discover`; none if it is an error, or the server speaks another revision.
    #[must_use]
    pub fn read(answer: &[u8]) -> Option<ServerOffer> {
        let result = JsonObject::read(answer)?.get_object("result")?;
        let revisions: Vec<String> = serde_json::from_slice(result.get("supportedVersions")?).ok()?;
        if !revisions.iter().any(|revision| revision == MODERN_REVISION) {
            return None;
        }
        let meta = result.get_object("_meta");
        let server = meta.as_ref().and_then(|meta| meta.get(META_SERVER)).or_else(|| result.get("serverInfo"));
        Some(ServerOffer {
            capabilities: result.get("capabilities").unwrap_or(b"{}").to_vec(),
            server: server.unwrap_or(UNNAMED_SERVER).to_vec(),
            instructions: result.get("instructions").map(<[u8]>::to_vec),
        })
    }

    /// The result of `initialize` for an agent that asks for this revision, and the revision that is agreed.
    #[must_use]
    pub fn initialize_result(&self, asked: &str) -> (Vec<u8>, &'static str) {
        let known = SESSION_REVISIONS.into_iter().find(|revision| *revision == asked);
        let revision = known.unwrap_or(SESSION_REVISIONS[0]);
        let instructions =
            self.instructions.as_ref().map(|text| [b",\"instructions\":", &text[..]].concat()).unwrap_or_default();
        let parts = [
            &b"{\"protocolVersion\":"[..],
            &quoted(revision),
            b",\"capabilities\":",
            &self.capabilities,
            b",\"serverInfo\":",
            &self.server,
            &instructions,
            b"}",
        ];
        (parts.concat(), revision)
    }

    /// Whether the server declares this capability, and this part of it if one is named.
    #[must_use]
    pub fn offers(&self, capability: &str, part: Option<&str>) -> bool {
        offers(&self.capabilities, capability, part)
    }
}

/// What an agent with sessions says about itself in `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentHello {
    /// The revision that it asks for.
    pub revision: String,
    /// What it can do, as JSON text.
    pub capabilities: Vec<u8>,
    /// Who it says that it is, as JSON text.
    pub client: Vec<u8>,
}

impl AgentHello {
    /// Reads the request `initialize`.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<AgentHello> {
        let params = JsonObject::read(message)?.get_object("params")?;
        // Tasks of 2025-11-25 have no equivalent.
        let capabilities = params.get_object("capabilities")?.edited(&[("tasks", None)]);
        Some(AgentHello {
            revision: params.get_text("protocolVersion")?,
            client: params.get("clientInfo").unwrap_or(UNNAMED_CLIENT).to_vec(),
            capabilities: JsonObject::read(&capabilities).is_some().then_some(capabilities)?,
        })
    }
}

fn offers(capabilities: &[u8], capability: &str, part: Option<&str>) -> bool {
    let Some(found) = JsonObject::read(capabilities).and_then(|all| all.get_object(capability)) else { return false };
    part.is_none_or(|part| found.get(part) == Some(b"true"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_answer_to_initialize_becomes_that_to_discover_and_back() {
        let answer = br#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"tasks":{"list":{}},"x":1.0},"serverInfo":{"name":"s","version":"1"},"instructions":"do\u0021"}}"#;
        let session = ServerSession::read(answer).unwrap();
        assert_eq!(session.revision, "2025-06-18");
        assert!(session.offers("tools", Some("listChanged")) && session.offers("tools", None));
        assert!(!session.offers("resources", None) && !session.offers("tools", Some("x")));
        let result = session.discover_result();
        let discovered: Value = serde_json::from_slice(&result).unwrap();
        assert_eq!(
            discovered,
            json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
                "capabilities": {"tools": {"listChanged": true}, "x": 1.0}, "instructions": "do!",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}},
            })
        );
        let offer = ServerOffer::read(&crate::bridge::result_message(b"0", &result)).unwrap();
        let (result, agreed) = offer.initialize_result("2025-06-18");
        let text = String::from_utf8(result).unwrap();
        assert_eq!(agreed, "2025-06-18");
        let wanted = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"x":1.0},"serverInfo":{"name":"s","version":"1"},"instructions":"do\u0021"}"#;
        assert_eq!(text, wanted);
        assert_eq!(offer.initialize_result("2099-01-01").1, "2025-11-25");
    }

    #[test]
    fn errors_and_other_revisions_are_no_answer() {
        for answer in [
            r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2026-07-28","capabilities":{}}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{"supportedVersions":["2025-11-25"],"capabilities":{}}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{}}"#,
            "[]",
        ] {
            assert_eq!(ServerSession::read(answer.as_bytes()), None, "{answer}");
            assert_eq!(ServerOffer::read(answer.as_bytes()), None, "{answer}");
        }
    }

    #[test]
    fn the_bridge_asks_in_both_eras_on_its_own_account() {
        let asked: Value = serde_json::from_slice(&own_discover()).unwrap();
        assert_eq!(asked["method"], "server/discover");
        assert_eq!(asked["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        let asked: Value = serde_json::from_slice(&own_initialize()).unwrap();
        assert_eq!(
            (&asked["method"], &asked["params"]["protocolVersion"]),
            (&"initialize".into(), &"2025-11-25".into())
        );
        let hello = AgentHello::read(&own_initialize()).unwrap();
        assert_eq!((hello.revision.as_str(), &hello.capabilities[..]), ("2025-11-25", &b"{}"[..]));
        let with_extensions = initialize_request(b"1", br#"{"extensions":{"a":{}},"roots":{}}"#, b"{}");
        assert_eq!(AgentHello::read(&with_extensions).unwrap().capabilities, br#"{"roots":{}}"#);
    }
}
