//! A host with an actor and settings of its own.

use std::time::Duration;

use perennial::{ChildSpec, Name, Settings, Tree};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

#[derive(Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Shop {
    opening_balance: u64,
}

struct Charge(u64, RpcReplyPort<u64>);
const BILLING: Name<Charge> = Name::new("billing");

struct Billing;

impl Actor for Billing {
    type Msg = Charge;
    type State = u64;
    type Arguments = Shop;

    async fn pre_start(&self, _: ActorRef<Charge>, shop: Shop) -> Result<u64, ActorProcessingErr> {
        Ok(shop.opening_balance)
    }

    async fn handle(
        &self,
        _: ActorRef<Charge>,
        Charge(amount, reply): Charge,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        *total += amount;
        Ok(reply.send(*total)?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = "[host]\nopening_balance = 2\n[quotas.billing]\nlimit = 100\nperiod = \"1s\"\n";
    let (settings, shop) = Settings::<Shop>::parse("shop.toml", text)?.split();
    let tree = Tree::builder("shop")
        .settings(settings)
        .child(ChildSpec::worker("billing", move || {
            (Billing, shop.clone())
        }))
        .start()
        .await?;
    let charge = |reply| Charge(40, reply);
    println!(
        "total: {}",
        tree.call(BILLING, charge, Duration::from_secs(2)).await?
    );
    tree.shutdown().await;
    Ok(())
}
