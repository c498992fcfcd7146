//! The report as tables.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};

use perennial::workers::analysis::Language;

use super::report::Report;
use super::shorten;

pub(super) fn tables(report: &Report) -> String {
    let mut out = String::new();
    if !report.totals.is_empty() {
        line(&mut out, &languages(report));
    }
    if !report.most_complex.is_empty() {
        line(&mut out, "\nMost complex functions");
        line(&mut out, &functions(report));
    }
    if !report.failures.is_empty() {
        line(
            &mut out,
            &format!("\n{} failed", files(report.failures.len() as u64)),
        );
        for (path, reason) in &report.failures {
            let path = printable(shorten(path, &report.directory));
            line(&mut out, &format!("  {path}: {}", printable(reason)));
        }
    }
    line(&mut out, &format!("\n{}", summary(report)));
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// What a file says, or is called, as it can be shown: a line break would break the table, and an escape sequence the
/// terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    shown
}

fn languages(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "language",
        "files",
        "lines",
        "code",
        "comment",
        "blank",
        "functions",
        "worst",
        "broken",
    ]);
    let number = |it: u64| Cell::new(it).set_alignment(CellAlignment::Right);
    for it in &report.totals {
        table.add_row([
            Cell::new(&it.language),
            number(it.files),
            number(it.lines),
            number(it.code),
            number(it.comment),
            number(it.blank),
            number(it.functions),
            it.worst_complexity
                .map_or_else(|| Cell::new("-"), |it| number(u64::from(it)))
                .set_alignment(CellAlignment::Right),
            number(it.files_with_syntax_errors),
        ]);
    }
    trimmed(&table)
}

fn functions(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for it in &report.most_complex {
        let path = printable(shorten(&it.path, &report.directory));
        table.add_row([
            Cell::new(it.complexity).set_alignment(CellAlignment::Right),
            Cell::new(printable(&it.name)),
            Cell::new(format!("{path}:{}", it.line)),
        ]);
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|it| it.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn files(count: u64) -> String {
    counted(count, "file")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = format!("{} analyzed", files(counts.analyzed));
    for (count, what) in [
        (counts.unchanged, "unchanged"),
        (counts.failed, "failed"),
        (counts.binary, "binary"),
        (report.removed, "removed"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push_str(&format!(" in {:.2} s", report.elapsed.as_secs_f64()));
    if counts.analyzed > 0 {
        text.push_str(&format!(
            " ({:.0} files/s, {:.1} MB/s)",
            report.files_per_second(),
            report.megabytes_per_second()
        ));
    }
    text.push_str(&format!(
        "\ntree: {} actors, {}, {}",
        report.snapshot.totals.actors,
        counted(report.restarts, "restart"),
        counted(report.refused, "refusal")
    ));
    if report.kills > 0 {
        text.push_str(&format!(", {} killed by chaos", report.kills));
    }
    for (name, pool) in &report.pools {
        text.push_str(&format!(", pool {name} {}", pool.size));
        if pool.max_overflow > 0 {
            text.push_str(&format!("+{}", pool.max_overflow));
        }
    }
    if report.found == 0 && report.failures.is_empty() {
        let languages = Language::ALL.map(Language::name).join(", ");
        text.push_str(&format!(
            "\nno file of a known language was found: {languages}"
        ));
    }
    if report.interrupted.is_some() {
        // What could not be walked failed without having been found.
        let seen = counts.analyzed + counts.unchanged + counts.binary + counts.failed;
        text.push_str(&format!(
            "\ninterrupted: {} of {} were not looked at",
            report.found.saturating_sub(seen),
            files(report.found)
        ));
    }
    text
}
