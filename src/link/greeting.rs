//! How a link begins: the connector's HELLO, and the edge's answer.

use crate::base::Clock;
use crate::engine::WindowGrant;
use crate::link::running::Link;
use crate::wire::mux::{EdgeIdentity, Fault, Hello, Refused, RegistrationRefusal, Welcome};

/// Why a link could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The edge refuses this connector.
    #[error("the edge refused the link: {refusal}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused {
        /// The reason, as a code.
        refusal: RegistrationRefusal,
        /// The reason, in the edge's words.
        reason: String,
    },
    /// The link ended before it was ready for calls.
    #[error("the link ended during its handshake: {0}")]
    Ended(Fault),
}

impl Link {
    /// At the edge: the connector's HELLO.
    ///
    /// # Errors
    ///
    /// If the link ends first.
    pub async fn hello(&self) -> Result<Box<Hello>, LinkError> {
        self.wait_for(|link| {
            let hello = link.0.greeting.borrow_mut().hello.take();
            hello.map(Ok).or_else(|| link.ended().map(|ended| Err(LinkError::Ended(ended.fault))))
        })
        .await
    }

    /// At the edge: accepts the connector. The receive window is as large as the core has memory for, up to the
    /// setting.
    pub fn welcome(&self, edge: EdgeIdentity) {
        let window = self.0.window.get_or_init(|| WindowGrant::first(&self.0.pool, self.0.window_max)).size();
        let mut mux = self.0.mux.borrow_mut();
        mux.set_link_window(window);
        mux.welcome(self.0.core.now(), edge);
        drop(mux);
        self.process_events();
    }

    /// At the edge: refuses the connector.
    pub fn refuse(&self, refusal: RegistrationRefusal, reason: &str) {
        self.0.mux.borrow_mut().refuse(refusal, reason);
        self.process_events();
    }

    /// At the connector: the edge's answer to HELLO.
    ///
    /// # Errors
    ///
    /// If the edge refuses, or the link ends first.
    pub async fn welcomed(&self) -> Result<Welcome, LinkError> {
        self.wait_for(|link| {
            let greeting = link.0.greeting.borrow();
            if let Some(Refused { refusal, reason }) = &greeting.refused {
                return Some(Err(LinkError::Refused { refusal: *refusal, reason: reason.clone() }));
            }
            greeting.welcome.map(Ok).or_else(|| link.ended().map(|ended| Err(LinkError::Ended(ended.fault))))
        })
        .await
    }

    /// At the connector: the random number of the edge's process, once the edge has accepted.
    #[must_use]
    pub fn edge_instance(&self) -> Option<u64> {
        self.0.greeting.borrow().welcome.map(|welcome| welcome.instance)
    }
}
