use std::fmt::Write as _;
use std::time::Duration;

use perennial_lifecycle::{ChildKind, ChildState};

use crate::{DeadLettersSnapshot, NodeSnapshot, Severity, Snapshot, Troubled, WaitSnapshot};

/// How much of a reason is shown beside its actor.
const NOTE: usize = 100;

/// How many waits are shown below the tree.
const WAITS: usize = 5;

const HEADER: [&str; 6] = ["actor", "kind", "state", "restarts", "uptime", "mailbox"];

pub(crate) fn summary(snapshot: &Snapshot) -> String {
    let totals = snapshot.totals;
    let mut line = format!(
        "{}: {}, {}, {} down",
        one_line(snapshot.root.id()),
        count(totals.actors, "actor"),
        count(totals.restarts, "restart"),
        totals.down,
    );
    if totals.problems > 0 {
        line.push_str(", ");
        line.push_str(&count(totals.problems, "problem"));
    }
    if totals.detached > 0 {
        line.push_str(&format!(", {} left behind", totals.detached));
    }
    line
}

pub(crate) fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

pub(crate) fn json(snapshot: &Snapshot) -> String {
    serde_json::to_string_pretty(snapshot)
        .expect("text keys, and nothing that can fail to serialise")
}

struct Row {
    cells: [String; 6],
    note: String,
}

pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut rows = vec![Row {
        cells: HEADER.map(str::to_owned),
        note: String::new(),
    }];
    add_rows(&snapshot.root, String::new(), "", &mut rows);
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let start = out.len();
        for (column, (cell, width)) in row.cells.iter().zip(widths).enumerate() {
            if column > 0 {
                out.push_str("  ");
            }
            // Numbers to the right. Writing to a string does not fail.
            let padding = " ".repeat(width - cell.chars().count());
            let (left, right) = if column < 3 {
                ("", &*padding)
            } else {
                (&*padding, "")
            };
            write!(out, "{left}{cell}{right}").expect("a string takes everything");
        }
        out.push_str("  ");
        out.push_str(&row.note);
        out.truncate(start + out[start..].trim_end().len());
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&summary(snapshot));
    out.push('\n');
    add_waits(&snapshot.waits, &mut out);
    add_dead_letters(&snapshot.dead_letters, &mut out);
    out
}

/// Writes who waits longest, if anybody does.
fn add_waits(waits: &[WaitSnapshot], out: &mut String) {
    if waits.is_empty() {
        return;
    }
    let mut longest: Vec<_> = waits.iter().collect();
    longest.sort_by_key(|it| std::cmp::Reverse(it.for_ms));
    out.push_str("waits:\n");
    for wait in longest.iter().take(WAITS) {
        let time = duration(Duration::from_millis(wait.for_ms));
        let (caller, callee) = (
            one_line(wait.caller.as_str()),
            one_line(wait.callee.as_str()),
        );
        writeln!(out, "  {caller} -> {callee} for {time}").expect("a string takes everything");
    }
    if waits.len() > WAITS {
        writeln!(out, "  and {} more", waits.len() - WAITS).expect("a string takes everything");
    }
}

/// Writes how many there are and what the last one was, if there are any.
fn add_dead_letters(dead: &DeadLettersSnapshot, out: &mut String) {
    let Some(last) = dead.last.last() else {
        return;
    };
    let text = format!("{} to {}: {}", last.message_type, last.target, last.reason);
    writeln!(
        out,
        "{}, the last a {}",
        count(dead.total, "dead letter"),
        shorten(&one_line(&text))
    )
    .expect("a string takes everything");
}

pub(crate) fn troubled(troubled: &Troubled) -> String {
    if troubled.is_empty() {
        return "nothing needs a look\n".to_owned();
    }
    let paths: Vec<_> = troubled
        .troubles
        .iter()
        .map(|it| one_line(it.path.as_str()))
        .collect();
    let width = paths.iter().map(|it| it.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut out = String::new();
    for (trouble, path) in troubled.troubles.iter().zip(&paths) {
        let reason = shorten(&one_line(&trouble.reason));
        let padding = " ".repeat(width - path.chars().count());
        writeln!(out, "{:8}  {path}{padding}  {reason}", trouble.severity)
            .expect("a string takes everything");
    }
    let many = |severity, of| {
        let number = u64::try_from(troubled.count(severity)).unwrap_or(u64::MAX);
        format!("{number} {of}")
    };
    writeln!(
        out,
        "\n{}, {}, {}",
        many(Severity::Critical, "critical"),
        many(Severity::Warning, "warning"),
        many(Severity::Notice, "notice")
    )
    .expect("a string takes everything");
    out
}

/// Adds a node's row, and those of its children behind `indent`.
fn add_rows(node: &NodeSnapshot, name: String, indent: &str, rows: &mut Vec<Row>) {
    let runs = node.incarnation.is_some();
    let if_runs = |text: String| if runs { text } else { "-".to_owned() };
    let uptime = Duration::from_millis(node.uptime_ms.unwrap_or_default());
    rows.push(Row {
        cells: [
            name + &one_line(node.id()),
            kind(node.kind).to_owned(),
            node.state.to_string(),
            node.restarts.to_string(),
            if_runs(duration(uptime)),
            if_runs(node.mailbox_depth.to_string()),
        ],
        note: note(node),
    });
    let last = node.children.len().saturating_sub(1);
    for (at, child) in node.children.iter().enumerate() {
        let (branch, below) = if at == last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        let name = format!("{indent}{branch}");
        add_rows(child, name, &format!("{indent}{below}"), rows);
    }
}

/// What is wrong here; failing that, how the last run ended if it ended badly.
fn note(node: &NodeSnapshot) -> String {
    let text = match (node.problem(), &node.last_exit) {
        (Some(problem), _) => format!("! {problem}"),
        (None, Some(exit)) if !exit.clean => format!("last exit: {}", exit.reason),
        _ => return String::new(),
    };
    shorten(&one_line(&text))
}

fn kind(kind: ChildKind) -> &'static str {
    match kind {
        ChildKind::Worker => "worker",
        ChildKind::Supervisor => "supervisor",
    }
}

/// Makes one line of any text.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(NOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Writes a duration with its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The states, each with the colours of its class.
const CLASSES: [(ChildState, &str); 6] = [
    (
        ChildState::Running,
        "fill:#d3f9d8,stroke:#2b8a3e,color:#1b1b1b",
    ),
    (
        ChildState::Starting,
        "fill:#d0ebff,stroke:#1971c2,color:#1b1b1b",
    ),
    (
        ChildState::Restarting,
        "fill:#fff3bf,stroke:#e67700,color:#1b1b1b",
    ),
    (
        ChildState::Quarantined,
        "fill:#ffd8a8,stroke:#d9480f,color:#1b1b1b",
    ),
    (
        ChildState::Stopping,
        "fill:#e9ecef,stroke:#868e96,color:#1b1b1b",
    ),
    (
        ChildState::Stopped,
        "fill:#ffe3e3,stroke:#c92a2a,color:#1b1b1b",
    ),
];

pub(crate) fn mermaid(snapshot: &Snapshot) -> String {
    let mut out = String::from("flowchart TD\n");
    // Numbers for names: an id may hold anything, and some words mean something to Mermaid.
    let mut next = 0;
    add_mermaid(&snapshot.root, None, &mut next, &mut out);
    for (state, style) in CLASSES {
        writeln!(out, "    classDef {state} {style}").expect("a string takes everything");
    }
    out
}

fn add_mermaid(node: &NodeSnapshot, parent: Option<usize>, next: &mut usize, out: &mut String) {
    let number = *next;
    *next += 1;
    let mut label = escape(&one_line(node.id()));
    if node.restarts > 0 {
        label.push_str("<br/>");
        label.push_str(&count(node.restarts, "restart"));
    }
    if let Some(problem) = node.problem() {
        label.push_str("<br/>");
        label.push_str(&escape(&shorten(&one_line(&problem))));
    }
    let (open, close) = match node.kind {
        ChildKind::Supervisor => ("[[", "]]"),
        ChildKind::Worker => ("(", ")"),
    };
    let state = node.state;
    writeln!(out, "    n{number}{open}\"{label}\"{close}:::{state}")
        .expect("a string takes everything");
    if let Some(parent) = parent {
        writeln!(out, "    n{parent} --> n{number}").expect("a string takes everything");
    }
    for child in &node.children {
        add_mermaid(child, Some(number), next, out);
    }
}

/// Takes the meaning from whatever means something in a Mermaid label.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '#' | '&' | '<' | '>' | '`' | ';' | '\\' => {
                write!(out, "#{};", u32::from(letter)).expect("a string takes everything");
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests;
