use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Check, CheckReport};
use crate::{Pressure, duration, sync::Ended};

/// How well something can do its work. Better is less.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Fully.
    #[default]
    Healthy,
    /// With limits.
    Degraded,
    /// Not.
    Unhealthy,
}

impl Status {
    /// Every status, best first.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Degraded, Self::Unhealthy];

    /// The status' name, as it is serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// What it counts in a score: 1, 0.5 or 0.
    pub fn score(self) -> f64 {
        match self {
            Self::Healthy => 1.0,
            Self::Degraded => 0.5,
            Self::Unhealthy => 0.0,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One number and one word for the whole system, memory included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// The services are healthy, and memory is at most medium.
    Healthy,
    /// The services are degraded, or memory is high.
    Degraded,
    /// Memory is critical.
    Critical,
    /// The services are unhealthy.
    Unhealthy,
}

impl Overall {
    /// Joins the services' status and the memory level; the first that holds counts: unhealthy, critical, degraded.
    pub fn of(services: Status, memory: Pressure) -> Self {
        match (services, memory) {
            (Status::Unhealthy, _) => Self::Unhealthy,
            (_, Pressure::Critical) => Self::Critical,
            (Status::Degraded, _) | (_, Pressure::High) => Self::Degraded,
            (Status::Healthy, Pressure::Low | Pressure::Medium) => Self::Healthy,
        }
    }
}

/// The health of one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ServiceHealth {
    /// The service.
    pub name: String,
    /// The worst of its checks.
    pub status: Status,
    /// The mean of its checks, from 0 to 1; 0 without any.
    pub score: f64,
    /// Why it is not healthy: `aspect: cause`, worst first.
    pub causes: Vec<String>,
    /// Every aspect that was looked at.
    pub checks: Vec<Check>,
}

/// The health of all services.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SystemHealth {
    /// Healthy if all services are; degraded if the score is at least 0.5 and at least one service is healthy;
    /// otherwise unhealthy. Healthy if there are none.
    pub status: Status,
    /// The mean over the services of 1, 0.5 or 0; 1 if there are none.
    pub score: f64,
    /// The services, by name.
    pub services: Vec<ServiceHealth>,
    /// How long the checks took, in seconds when serialized.
    #[serde(serialize_with = "duration::seconds::serialize")]
    pub took: Duration,
}

impl SystemHealth {
    /// Joins this with the memory level.
    pub fn overall(&self, memory: Pressure) -> Overall {
        Overall::of(self.status, memory)
    }

    /// Finds a service by its exact name.
    pub fn service(&self, name: &str) -> Option<&ServiceHealth> {
        self.services.iter().find(|service| service.name == name)
    }
}

impl fmt::Display for ServiceHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.status)?;
        if !self.causes.is_empty() {
            write!(f, ": {}", self.causes.join("; "))?;
        }
        Ok(())
    }
}

/// One line for the whole, and one for each service that is not healthy.
impl fmt::Display for SystemHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, score {:.2}", self.status, self.score)?;
        let ailing = |it: &&ServiceHealth| it.status != Status::Healthy;
        for service in self.services.iter().filter(ailing) {
            write!(f, "\n  {service}")?;
        }
        Ok(())
    }
}

/// Who is there, and who is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuickHealth {
    /// Healthy if all are there, unhealthy if none is, degraded otherwise. Healthy if no service is registered.
    pub status: Status,
    /// How many are there.
    pub alive: usize,
    /// The names of those that are not.
    pub down: Vec<String>,
}

/// What the end of a check says about its service.
pub(crate) fn service(name: String, ended: Ended<CheckReport>, timeout: Duration) -> ServiceHealth {
    let mut checks = match ended {
        Ended::Done(report) => report.checks,
        Ended::Panicked(message) => vec![Check::unhealthy(
            "check",
            format!("the check panicked: {message}"),
        )],
        Ended::TimedOut => vec![Check::unhealthy(
            "answers",
            format!("no answer within {timeout:?}"),
        )],
    };
    let score = mean(checks.iter().map(|check| check.status)).unwrap_or(0.0);
    if checks.is_empty() {
        checks.push(Check::unhealthy("check", "the check looked at nothing"));
    }
    let status = checks.iter().map(|check| check.status).max();
    let mut ailing: Vec<_> = checks
        .iter()
        .filter(|check| check.status != Status::Healthy)
        .collect();
    ailing.sort_by_key(|check| std::cmp::Reverse(check.status));
    let causes = ailing
        .into_iter()
        .map(|check| match &check.cause {
            Some(cause) => format!("{}: {cause}", check.name),
            None => format!("{}: {}", check.name, check.status),
        })
        .collect();
    ServiceHealth {
        name,
        status: status.unwrap_or(Status::Unhealthy),
        score,
        causes,
        checks,
    }
}

/// What the services' health says about the system.
pub(crate) fn system(services: Vec<ServiceHealth>, took: Duration) -> SystemHealth {
    let statuses = || services.iter().map(|service| service.status);
    let score = mean(statuses()).unwrap_or(1.0);
    let status = if score >= 0.8 && statuses().all(|status| status == Status::Healthy) {
        Status::Healthy
    } else if score >= 0.5 && statuses().any(|status| status == Status::Healthy) {
        Status::Degraded
    } else {
        Status::Unhealthy
    };
    SystemHealth {
        status,
        score,
        services,
        took,
    }
}

/// What liveness alone says.
pub(crate) fn quick(services: impl IntoIterator<Item = (String, bool)>) -> QuickHealth {
    let (mut alive, mut down) = (0, Vec::new());
    for (name, is_alive) in services {
        if is_alive {
            alive += 1;
        } else {
            down.push(name);
        }
    }
    let status = match (alive, down.is_empty()) {
        (_, true) => Status::Healthy,
        (0, false) => Status::Unhealthy,
        (_, false) => Status::Degraded,
    };
    QuickHealth {
        status,
        alive,
        down,
    }
}

fn mean(statuses: impl Iterator<Item = Status>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u32);
    for status in statuses {
        sum += status.score();
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests;
