//! How scripts are printed.

use std::fmt;

use perennial_supervisor::AutoShutdown;

use crate::script::{
    Body, Call, ChildPlan, Kind, OnStop, Op, Outcome, ROOT, Script, Step, SupervisorPlan,
};

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{ROOT}: ")?;
        self.root.write(f, 1)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {step:?}", number + 1)?;
        }
        Ok(())
    }
}

impl SupervisorPlan {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self.kind {
            Kind::Static(strategy) => write!(f, "{strategy:?}")?,
            Kind::Dynamic {
                restart,
                significant,
                shutdown,
            } => {
                let mark = if significant { ", significant" } else { "" };
                write!(f, "dynamic ({restart}{mark}, {shutdown})")?;
            }
        }
        write!(f, ", {} in {} ticks", self.max_restarts, self.period)?;
        if self.auto_shutdown != AutoShutdown::Never {
            write!(f, ", {:?}", self.auto_shutdown)?;
        }
        writeln!(f)?;
        for child in &self.children {
            write!(f, "{:1$}", "", depth * 2)?;
            child.write(f, depth)?;
        }
        Ok(())
    }
}

impl ChildPlan {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let mark = if self.significant {
            ", significant"
        } else {
            ""
        };
        write!(f, "{}: {}{mark}, {}", self.id, self.restart, self.shutdown)?;
        if !self.starts.is_empty() {
            write!(f, ", starts {:?}", self.starts)?;
        }
        match &self.body {
            Body::Worker(OnStop::Obey) => writeln!(f),
            Body::Worker(on_stop) => writeln!(f, ", asked to stop: {on_stop:?}"),
            Body::Supervisor(plan) => {
                f.write_str(", ")?;
                plan.write(f, depth + 1)
            }
        }
    }
}

impl fmt::Debug for ChildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 2)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(ticks) => write!(f, "wait {ticks}"),
            Self::Do(ops) => {
                for (index, op) in ops.iter().enumerate() {
                    let and = if index == 0 { "" } else { "; " };
                    write!(f, "{and}{op:?}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(id, exit, starts) => {
                write!(f, "{id} exits: {exit:?}")?;
                then(f, starts)
            }
            Self::Call(supervisor, call) => write!(f, "{supervisor}.{call:?}"),
            Self::Stop(exit) => write!(f, "stop {ROOT}: {exit:?}"),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(plan) => write!(f, "start_child({})", format!("{plan:?}").trim_end()),
            Self::Terminate(id) => write!(f, "terminate_child({id})"),
            Self::TerminateRun(id) => {
                write!(f, "terminate_child(the run of {id} that was started)")
            }
            Self::Restart(id, starts) => {
                write!(f, "restart_child({id})")?;
                then(f, starts)
            }
            Self::Delete(id) => write!(f, "delete_child({id})"),
            Self::Which => write!(f, "which_children"),
            Self::Count => write!(f, "count_children"),
            Self::Spec(id) => write!(f, "child_spec({id})"),
        }
    }
}

fn then(f: &mut fmt::Formatter<'_>, starts: &[Outcome]) -> fmt::Result {
    match starts {
        [] => Ok(()),
        starts => write!(f, ", starts {starts:?}"),
    }
}
