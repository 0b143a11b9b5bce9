//! The tables of the edge, as one core sees them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::edge::settings::EdgeTables;
use crate::edge::shared::Edge;

/// The tables with a count of references that only one core writes.
pub(super) type LocalTables = Rc<Arc<EdgeTables>>;

/// A core's own reference to the tables, replaced when their version changes. A call writes no memory that another core
/// reads or writes for it.
pub(super) struct CoreTables {
    edge: Arc<Edge>,
    version: Cell<u64>,
    tables: RefCell<LocalTables>,
}

impl CoreTables {
    pub(super) fn new(edge: &Arc<Edge>) -> CoreTables {
        // The version first: should the tables change in between, they are asked for once more.
        let version = Cell::new(edge.tables_version());
        CoreTables { edge: Arc::clone(edge), version, tables: RefCell::new(Rc::new(edge.tables())) }
    }

    /// The version of the tables that this core used last.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// What is served now.
    pub(super) fn get(&self) -> LocalTables {
        let version = self.edge.tables_version();
        if self.version.replace(version) != version {
            self.tables.replace(Rc::new(self.edge.tables()));
        }
        Rc::clone(&self.tables.borrow())
    }
}
