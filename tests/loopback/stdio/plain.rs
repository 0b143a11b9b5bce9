//! A server that starts fast, behind a tunnel.

use serde_json::{Value, json};

use super::{HOST, SESSION, python};
use crate::tunnel_processes::Tunnel;

/// The server in `plain.py` behind a tunnel, with further settings of its route.
pub(super) struct Plain {
    pub(super) tunnel: Tunnel,
    pub(super) client: reqwest::Client,
    pub(super) token: Option<String>,
}

impl Plain {
    pub(super) fn start(settings: &str, arguments: &str) -> Plain {
        Plain::with_tables(settings, arguments, "")
    }

    pub(super) fn with_tables(settings: &str, arguments: &str, tables: &str) -> Plain {
        let mut tunnel = Tunnel::without_connector("plain", HOST, 20_000, "");
        let file = super::file("plain.py");
        let admin = crate::free_address::free_address();
        tunnel.connect_routes(&format!(
            "admin_listen = '{admin}'\n[[route]]\nhost = '{HOST}'\nupstream = 'stdio'\n\
             command = ['{}', '{file}'{arguments}]\n{settings}\n{tables}",
            python()
        ));
        std::fs::write(tunnel.file("admin"), admin.to_string()).unwrap();
        Plain { tunnel, client: reqwest::Client::new(), token: None }
    }

    pub(super) async fn post(&self, session: Option<&str>, message: &Value) -> reqwest::Response {
        let url = format!("http://{HOST}:{}/mcp", self.tunnel.agents.port());
        let mut request = self.client.post(url).header("Accept", "application/json, text/event-stream").json(message);
        if let Some(session) = session {
            request = request.header(SESSION, session);
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.send().await.unwrap()
    }

    /// A new session, or the status of its refusal.
    pub(super) async fn session(&self) -> Result<String, u16> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}, "clientInfo": {"name": "t", "version": "1"}});
        let answer =
            self.post(None, &json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
        match answer.headers().get(SESSION) {
            Some(session) => Ok(session.to_str().unwrap().to_owned()),
            None => Err(answer.status().as_u16()),
        }
    }

    /// The text or the error of an answer, or the status of a call that fails.
    pub(super) async fn call(&self, session: &str, tool: &str, arguments: Value) -> Result<String, u16> {
        let params = json!({"name": tool, "arguments": arguments});
        let answer = self
            .post(Some(session), &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
            .await;
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        let body: Value = answer.json().await.unwrap();
        Ok(body["result"]["content"][0]["text"].as_str().map_or_else(|| body["error"].to_string(), str::to_owned))
    }

    pub(super) async fn pid(&self, session: &str) -> u32 {
        self.call(session, "pid", json!({})).await.unwrap().parse().unwrap()
    }

    pub(super) async fn admin(&self, path: &str) -> String {
        let admin = std::fs::read_to_string(self.tunnel.file("admin")).unwrap();
        self.client.get(format!("http://{admin}/{path}")).send().await.unwrap().text().await.unwrap()
    }

    /// A count of the metrics for the children of the route.
    pub(super) async fn count(&self, family: &str, kind: &str) -> u64 {
        let metrics = self.admin("metrics").await;
        let wanted = format!("adit_stdio_{family}_total{{");
        let lines = metrics.lines().filter(|line| line.starts_with(&wanted) && line.contains(&format!("\"{kind}\"")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}
