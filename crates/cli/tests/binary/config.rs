//! `perennial config check`.

use crate::place::Place;

#[tokio::test]
async fn every_error_is_printed_with_its_place_its_key_and_what_was_expected() {
    let place = Place::empty();
    place.write(
        "bad.toml",
        "\
[pools.database]
size = \"two\"
max_overflow = \"many\"

[breakers.geo]
open_time = true

[memroy]
high = 0.8

[host.actors.reporter]
kind = \"report\"
every = \"1s\"
color = \"red\"

[host.actors.sources]
kind = \"analyze\"
paths = [\"src\"]
every = \"1m\"
max_bytes = \"4 MiB\"
",
    );
    let run = place.run("config check bad.toml").await.expect(1);
    assert_eq!(run.stdout, "");
    let expected = [
        (
            "bad.toml:2:8: pools.database.size: ",
            "expected a whole number from 0",
        ),
        (
            "bad.toml:3:16: pools.database.max_overflow: ",
            "expected a whole number from 0",
        ),
        ("bad.toml:6:13: breakers.geo.open_time: ", "expected"),
        (
            "bad.toml:8:2: memroy: ",
            "expected one of `database`, `supervision`, `pools`",
        ),
        (
            "bad.toml:14:1: host.actors.reporter.color: ",
            "expected one of `kind`, `every`",
        ),
        (
            "bad.toml:20:13: host.actors.sources.max_bytes: ",
            "expected a whole number from 0",
        ),
    ];
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{}", run.stderr);
    for (line, (place, wanted)) in lines.iter().zip(expected) {
        assert!(line.starts_with(place) && line.contains(wanted), "{line}");
    }
}

#[tokio::test]
async fn an_actor_that_is_not_described_well_is_named() {
    let place = Place::empty();
    for (text, expected) in [
        (
            "kind = \"report\"\nevery = \"soon\"\n",
            "3:9: host.actors.it.every: invalid value",
        ),
        (
            "kind = \"sleep\"\nevery = \"1s\"\n",
            "2:8: host.actors.it.kind: unknown variant `sleep`",
        ),
        (
            "kind = \"report\"\nevery = \"1s\"\npaths = []\n",
            "1:1: host.actors.it: `paths` and",
        ),
        (
            "kind = \"analyze\"\nevery = \"1s\"\n",
            "1:1: host.actors.it: missing field `paths`",
        ),
        (
            "kind = \"report\"\n",
            "1:1: host.actors.it: missing field `every`",
        ),
        (
            "kind = \"report\"\nevery = \"99ms\"\n",
            "1:1: host.actors.it: `every` must be at least 100ms",
        ),
    ] {
        place.write("t.toml", format!("[host.actors.it]\n{text}"));
        let run = place.run("config check t.toml").await.expect(1);
        assert!(
            run.error().starts_with(&format!("t.toml:{expected}")),
            "{run:?}"
        );
    }
}

#[tokio::test]
async fn an_actor_whose_name_cannot_be_used_is_named() {
    let place = Place::empty();
    for (name, expected) in [
        (
            "a/b",
            "host.actors.a/b: the name of an actor must not be empty or contain `/`",
        ),
        (
            "",
            "host.actors.: the name of an actor must not be empty or contain `/`",
        ),
        (
            "analysis",
            "host.actors.analysis: the host has an actor of this name already",
        ),
    ] {
        let text = format!("\n[host.actors.\"{name}\"]\nkind = \"report\"\nevery = \"1s\"\n");
        place.write("t.toml", text);
        let run = place.run("config check t.toml").await.expect(1);
        assert_eq!(run.error(), format!("t.toml:2:14: {expected}"));
    }
}

#[tokio::test]
async fn a_text_that_is_not_toml_is_reported_by_its_place() {
    let place = Place::empty();
    place.write("bad.toml", "[pools]\n\nthis is not = = toml\n");
    let run = place.run("config check bad.toml").await.expect(1);
    assert!(run.stderr.starts_with("bad.toml:3:"), "{run:?}");
}

#[tokio::test]
async fn a_good_file_is_good() {
    let place = Place::empty();
    place.write(
        "good.toml",
        "[host.actors.r]\nkind = \"report\"\nevery = \"10s\"\n",
    );
    let run = place.run("config check good.toml").await.expect(0);
    assert_eq!((&*run.stdout, &*run.stderr), ("good.toml: good\n", ""));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let place = Place::empty();
    for name in ["no/such.toml", "src"] {
        let run = place.run(&format!("config check {name}")).await.expect(1);
        assert!(
            run.error()
                .starts_with(&format!("{name}: cannot be read: ")),
            "{run:?}"
        );
    }
    place.write("bad.toml", b"\xff\xfe");
    let run = place.run("config check bad.toml").await.expect(1);
    assert!(
        run.error().starts_with("bad.toml: cannot be read: "),
        "{run:?}"
    );
    // The first is exactly as large as it may be; a letter of two bytes lies across that in the second, and the last has no end.
    place.write("large.toml", "#".repeat(1 << 20));
    place.run("config check large.toml").await.expect(0);
    place.write("huge.toml", format!("#{}", "é".repeat(1 << 19)));
    for name in ["huge.toml", "/dev/zero"] {
        let run = place.run(&format!("config check {name}")).await.expect(1);
        let expected = format!("{name}: cannot be read: it is larger than 1 MiB");
        assert_eq!(run.error(), expected, "{run:?}");
    }
}
