use std::sync::Arc;

use perennial_lifecycle::{
    Child, ChildKey, ChildKind, ChildState, ExitReason, Incarnation, ParentLink, Restart, Scope,
    Shutdown, StartContext, StartError, WallTime,
};

use crate::RootTaken;
use crate::event;
use crate::open_start::OpenStart;

/// The root's parent is whoever waits for the root's end.
struct NoParent(Scope);

impl ParentLink for NoParent {
    fn scope(&self) -> &Scope {
        &self.0
    }

    fn child_ended(&self, _: ChildKey, run: Arc<Incarnation>, _: WallTime) {
        // One that was killed may be brought back by whoever started it.
        if run.exit_reason().is_some_and(ExitReason::is_clean) {
            run.node().retire();
        }
    }
}

/// Starts a supervisor, of any sort, as the root of the tree that `scope` describes.
pub(crate) async fn start_root(
    scope: &Scope,
    spawn: impl AsyncFnOnce(StartContext) -> Result<Child, StartError>,
) -> Result<(), StartError> {
    let node = Arc::clone(scope.root());
    let Some(_start) = scope.begin_root() else {
        let path = node.path().clone();
        return Err(StartError::failed(RootTaken { path }));
    };
    node.set_spec(
        ChildKind::Supervisor,
        Restart::Permanent,
        Shutdown::Infinity,
    );
    node.set_state(ChildState::Starting);
    let context = StartContext::new(
        Arc::clone(&node),
        Arc::new(NoParent(scope.clone())),
        0,
        None,
    );
    let number = context.incarnation();
    let open = OpenStart::new(Arc::clone(&node), number);
    let spawned = spawn(context).await;
    open.settle();
    match spawned {
        Ok(child) => {
            // The caller's handle finds it by its node.
            drop(child.adopt());
            event::started(scope, &node, number);
            Ok(())
        }
        Err(error) => {
            event::start_failed(scope, &node, number, &error.reason);
            node.set_state(ChildState::Stopped);
            Err(error)
        }
    }
}
