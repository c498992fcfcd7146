//! Help teaches by example, and the examples are good.

use crate::place::Place;

/// The lines that are set in below a heading.
fn below(help: &str, heading: &str) -> String {
    let (_, after) = help.split_once(heading).expect("the heading is there");
    let lines = after.lines().skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with("  "));
    lines
        .map(|line| format!("{}\n", line.trim_start()))
        .collect()
}

#[tokio::test]
async fn the_help_of_every_command_has_examples() {
    let place = Place::empty();
    for command in ["", "analyze", "run", "config", "config check"] {
        let run = place.run(&format!("{command} --help")).await.expect(0);
        let examples = below(&run.stdout, "Examples:");
        let example = format!("perennial {command}");
        assert!(examples.contains(example.trim_end()), "{}", run.stdout);
        assert_eq!(run.stderr, "");
    }
}

#[tokio::test]
async fn the_files_that_the_help_shows_are_good() {
    let place = Place::empty();
    for (command, heading) in [
        ("config check", "A small file:"),
        ("run", "Host actors are configured in the file:"),
    ] {
        let run = place.run(&format!("{command} --help")).await.expect(0);
        let file = below(&run.stdout, heading);
        assert!(file.contains('['), "{}", run.stdout);
        place.write("shown.toml", &file);
        place.run("config check shown.toml").await.expect(0);
    }
}

#[tokio::test]
async fn what_to_log_is_taken_from_the_environment_or_said_to_be_wrong() {
    let place = Place::empty();
    place.write("good.toml", "");
    for (log, is_understood) in [("info", true), ("a=b=c", false)] {
        let mut command = place.perennial("config check good.toml");
        let run = crate::run::output(command.env("PERENNIAL_LOG", log)).await;
        let run = run.expect(0);
        let said = run.stderr.contains("PERENNIAL_LOG is not understood");
        assert_eq!(said, !is_understood, "{run:?}");
    }
}

#[tokio::test]
async fn a_command_line_that_is_not_understood_is_explained() {
    let place = Place::empty();
    for arguments in [
        "",
        "analyse src",
        "analyze",
        "analyze src --workers 0",
        "analyze src --rate 0",
    ] {
        let run = place.run(arguments).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(
            run.stderr.contains("--help") || run.stderr.contains("Usage"),
            "{run:?}"
        );
    }
}
