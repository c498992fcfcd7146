//! The parts of a replay that are about dynamic supervisors.

use std::sync::Arc;

use perennial_lifecycle::{ChildKind, ChildSpec, Scope, StartError};
use perennial_supervisor::{
    ChildTemplate, DynamicChild, DynamicSpec, DynamicSupervisor, StartChildError, Supervisor,
    SupervisorSpec, SupervisorSpecError, TerminateChildError,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

use super::reason;
use super::record::{Flags, Part, Spec};
use super::replay::{self, down, error};
use super::stage::{Stage, intensity};

/// A supervisor of either sort.
pub(crate) enum AnySpec {
    Static(SupervisorSpec),
    Dynamic(DynamicSpec<Part>),
}

impl AnySpec {
    pub(crate) async fn start_in(self, scope: &Scope) -> Result<(), StartError> {
        match self {
            Self::Static(spec) => spec.start_in(scope).await.map(drop),
            Self::Dynamic(spec) => spec.start_in(scope).await.map(drop),
        }
    }

    pub(crate) fn into_child(self, id: &str) -> ChildSpec {
        match self {
            Self::Static(spec) => spec.into_child(id),
            Self::Dynamic(spec) => spec.into_child(id),
        }
    }
}

/// Turns a recorded template into ours; what is not recorded is not set.
pub(crate) fn build(
    stage: &Arc<Stage>,
    flags: &Flags,
    template: &Spec,
) -> Result<DynamicSpec<Part>, SupervisorSpecError> {
    let stage = Arc::clone(stage);
    let shared = Arc::new(template.clone());
    let kind = template.kind.unwrap_or(ChildKind::Worker);
    let id = template.id.as_str();
    let mut made = ChildTemplate::from_fn(id, kind, move |context, part: Arc<Part>| {
        let (stage, template) = (Arc::clone(&stage), Arc::clone(&shared));
        async move { stage.start(&template.make(&part), context).await }
    });
    if let Some(restart) = template.restart {
        made = made.restart(restart);
    }
    if let Some(significant) = template.significant {
        made = made.significant(significant);
    }
    if let Some(shutdown) = template.shutdown {
        made = made.shutdown(shutdown);
    }
    let mut builder = DynamicSupervisor::builder(made);
    if let Some(intensity) = intensity(flags) {
        builder = builder.intensity(intensity);
    }
    if let Some(auto_shutdown) = flags.auto_shutdown {
        builder = builder.auto_shutdown(auto_shutdown);
    }
    builder.build()
}

pub(crate) async fn start_child(
    stage: Arc<Stage>,
    sup: Option<DynamicSupervisor<Part>>,
    part: Part,
) -> Value {
    let Some(sup) = sup else { return down() };
    let name = part.name.clone();
    match sup.start_child_named(name, part).await {
        Ok(child) => {
            let instance = stage.instance(child.node(), child.incarnation().number());
            match child.info() {
                Some(info) => json!({ "ok": instance, "info": &**info }),
                None => json!({ "ok": instance }),
            }
        }
        Err(StartChildError::Ignored { .. }) => json!({ "ok": null }),
        Err(StartChildError::Failed(failed)) => error(reason::to_json(&failed.reason)),
        Err(StartChildError::Down(_)) => down(),
        Err(other) => error(other.to_string()),
    }
}

pub(crate) async fn terminate_child(
    sup: Option<DynamicSupervisor<Part>>,
    child: Option<DynamicChild>,
) -> Value {
    let Some(sup) = sup else { return down() };
    let Some(child) = child else {
        return json!("nobody there");
    };
    match sup.terminate_child(&child).await {
        Ok(()) => json!("ok"),
        Err(TerminateChildError::NotFound { .. }) => error("not_found"),
        Err(TerminateChildError::Down(_)) => down(),
        Err(other) => error(other.to_string()),
    }
}

pub(crate) async fn child_spec(
    sup: Option<DynamicSupervisor<Part>>,
    child: Option<DynamicChild>,
) -> Value {
    let Some(sup) = sup else { return down() };
    let Some(child) = child else {
        return json!("nobody there");
    };
    match sup.child_spec(&child).await {
        Ok(spec) => replay::child_spec(spec.as_ref()),
        Err(_) => down(),
    }
}

/// Does nothing; lives in a tree of its own.
struct Bystander;

impl Actor for Bystander {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

pub(crate) async fn terminate_foreign(sup: Option<DynamicSupervisor<Part>>) -> Value {
    let spec = Supervisor::builder()
        .child(ChildSpec::worker("bystander", || (Bystander, ())))
        .build();
    let Ok(spec) = spec else {
        return json!("the other tree is refused");
    };
    let Ok(other) = spec.start("elsewhere").await else {
        return json!("the other tree did not start");
    };
    let Some(node) = other.node().child("bystander") else {
        return json!("the bystander is not there");
    };
    let run = node.running().await;
    terminate_child(sup, Some(DynamicChild::new(node, run))).await
}
