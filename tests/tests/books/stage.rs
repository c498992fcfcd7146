//! Plays a plan.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use perennial::{ChildSpec, ExitReason, Registry, RestartIntensity, Scope, Shutdown, Supervisor};
use tokio::time::sleep;

use crate::actors::{Mailed, NAMES, Plain, World, group_name};
use crate::audit;
use crate::log::Log;
use crate::script::{Plan, Role, Step};

const BELOW: &str = "below";
/// After so long everything has come to rest, whatever it was.
const LONG: Duration = Duration::from_secs(86_400);

pub(crate) async fn play(plan: Plan) {
    let scope = Scope::new("t");
    let world = Arc::new(World {
        registry: Registry::new(&scope),
        log: Arc::new(Log::default()),
        actors: plan.actors.len(),
        places: Mutex::default(),
    });
    scope.traffic().dead_letters().set_capacity(1_000_000);
    let supervisor = Supervisor::builder()
        .intensity(patient())
        .children(specs(&world, &plan.actors, false))
        .child(below(&world, &plan.actors).into_child(BELOW));
    let supervisor = supervisor.build().unwrap().start_in(&scope).await.unwrap();

    let mut tasks = Vec::new();
    for step in plan.steps {
        let whom = |at: usize| at % world.actors;
        let role = |at: usize| &plan.actors[whom(at)];
        let keeper = |at: usize| match role(at).is_below {
            false => Some(supervisor.clone()),
            true => scope
                .root()
                .find("t/below")
                .and_then(|it| Supervisor::at(&it)),
        };
        let id = |at: usize| NAMES[whom(at)].to_string();
        let run = |at: usize| {
            let address = world.registry.resolve(&NAMES[whom(at)]).unwrap();
            address.incarnation()
        };
        let task: BoxFuture<'static, ()> = match step {
            Step::Message(sending) => world.send(sending),
            Step::Kill(at) => {
                if let Some(run) = run(at) {
                    run.kill();
                }
                continue;
            }
            Step::Stop(at) => {
                if let Some(run) = run(at) {
                    run.stop(ExitReason::Normal);
                }
                continue;
            }
            // Whether it is there or runs or not: what is refused changes nothing.
            Step::Terminate(at) => match keeper(at) {
                Some(it) => {
                    let id = id(at);
                    async move { drop(it.terminate_child(&id).await) }.boxed()
                }
                None => continue,
            },
            Step::Restart(at) => match keeper(at) {
                Some(it) => {
                    let id = id(at);
                    async move { drop(it.restart_child(&id).await) }.boxed()
                }
                None => continue,
            },
            Step::Bounce(at) => match keeper(at) {
                Some(it) => {
                    let id = id(at);
                    async move { drop(it.bounce_child(&id).await) }.boxed()
                }
                None => continue,
            },
            Step::Delete(at) => match keeper(at) {
                Some(it) => {
                    let id = id(at);
                    async move { drop(it.delete_child(&id).await) }.boxed()
                }
                None => continue,
            },
            Step::Start(at) => match keeper(at) {
                Some(it) => {
                    let spec = spec(&world, whom(at), role(at));
                    async move { drop(it.start_child(spec).await) }.boxed()
                }
                None => continue,
            },
            Step::TerminateBelow => {
                let supervisor = supervisor.clone();
                async move { drop(supervisor.terminate_child(BELOW).await) }.boxed()
            }
            Step::RestartBelow => {
                let supervisor = supervisor.clone();
                async move { drop(supervisor.restart_child(BELOW).await) }.boxed()
            }
            Step::Replay(nth) => {
                let dead = scope.traffic().dead_letters();
                let letters = dead.list();
                if !letters.is_empty() {
                    let replayed = dead.replay(letters[nth % letters.len()].id);
                    world.log.entries().replayed += u64::from(replayed.is_ok());
                }
                continue;
            }
            Step::Pass(millis) => {
                sleep(Duration::from_millis(millis)).await;
                continue;
            }
            Step::Yield => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        tasks.push(tokio::spawn(task));
    }
    sleep(LONG).await;
    for task in tasks {
        // Time was enough for all of them.
        task.now_or_never().expect("it hangs").unwrap();
    }
    audit::at_rest(&scope, &world);
    supervisor.stop(ExitReason::Shutdown).await;
    audit::at_end(&scope, &world, &plan.actors);
}

fn patient() -> RestartIntensity {
    RestartIntensity::new(1_000_000, Duration::from_secs(1))
}

fn below(world: &Arc<World>, actors: &[Role]) -> perennial::SupervisorSpec {
    let supervisor = Supervisor::builder()
        .intensity(patient())
        .children(specs(world, actors, true));
    supervisor.build().unwrap()
}

fn specs(world: &Arc<World>, actors: &[Role], is_below: bool) -> Vec<ChildSpec> {
    let actors = actors.iter().enumerate();
    let here = actors.filter(|(_, role)| role.is_below == is_below);
    here.map(|(at, role)| spec(world, at, role)).collect()
}

fn spec(world: &Arc<World>, at: usize, role: &Role) -> ChildSpec {
    let world = Arc::clone(world);
    let id = NAMES[at].to_string();
    let spec = match role.is_mail {
        false => ChildSpec::worker(id, move || (Plain(Arc::clone(&world)), ())),
        true => ChildSpec::worker(id, move || (Mailed(Arc::clone(&world)), ())),
    };
    let spec = match role.is_member {
        false => spec,
        true => spec.group(group_name(role.is_mail).to_actor_name()),
    };
    spec.restart(role.restart)
        .name(NAMES[at].to_actor_name())
        .mailbox(role.mailbox())
        .shutdown(Shutdown::Within(Duration::from_millis(50)))
}
