//! The tables of the edge, as cached by one core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::edge::settings::EdgeTables;
use crate::edge::shared::Edge;

/// The tables, with a reference count that only one core writes.
pub(super) type LocalTables = Rc<Arc<EdgeTables>>;

/// A core's own reference to the tables, replaced when their version changes, so that a call writes no memory that is
/// shared between cores.
pub(super) struct CoreTables {
    edge: Arc<Edge>,
    version: Cell<u64>,
    tables: RefCell<LocalTables>,
}

impl CoreTables {
    pub(super) fn new(edge: &Arc<Edge>) -> CoreTables {
        // The version is read first: if the tables change in between, they are read once more.
        let version = Cell::new(edge.tables_version());
        CoreTables { edge: Arc::clone(edge), version, tables: RefCell::new(Rc::new(edge.tables())) }
    }

    /// The version of the tables that this core used last.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// The current tables of this core.
    pub(super) fn get(&self) -> LocalTables {
        let version = self.edge.tables_version();
        if self.version.replace(version) != version {
            self.tables.replace(Rc::new(self.edge.tables()));
        }
        Rc::clone(&self.tables.borrow())
    }
}
