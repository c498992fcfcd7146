//! Runs that cannot begin: one clear line, exit code 1.

use rusqlite::Connection;

use crate::place::Place;

#[tokio::test]
async fn a_path_that_is_not_there_is_named() {
    let (place, _) = Place::with_files(5);
    let run = place
        .run("analyze src no/such/place --db a.db")
        .await
        .expect(1);
    assert_eq!(
        run.error(),
        "perennial: no/such/place: No such file or directory (os error 2)"
    );
    // Nothing was begun.
    assert!(!place.path("a.db").exists());
}

#[tokio::test]
async fn a_database_that_is_a_directory_is_named() {
    let (place, _) = Place::with_files(5);
    let run = place.run("analyze src --db src").await.expect(1);
    assert!(
        run.error()
            .starts_with("perennial: cannot write the database src: "),
        "{run:?}"
    );
}

#[tokio::test]
async fn a_database_in_a_directory_that_is_not_there_is_named() {
    let (place, _) = Place::with_files(5);
    let run = place.run("analyze src --db no/such/a.db").await.expect(1);
    assert!(
        run.error()
            .starts_with("perennial: cannot write the database no/such/a.db: "),
        "{run:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_left_as_it_is() {
    let (place, _) = Place::with_files(5);
    let text = "this is a text and not a database\n".repeat(50);
    let file = place.write("notes.txt", &text);
    let run = place.run("analyze src --db notes.txt").await.expect(1);
    assert_eq!(
        run.error(),
        "perennial: cannot write the database notes.txt: file is not a database",
    );
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_another_program_is_named() {
    let (place, _) = Place::with_files(5);
    let connection = Connection::open(place.path("other.db")).unwrap();
    connection
        .execute_batch("CREATE TABLE files (name TEXT)")
        .unwrap();
    drop(connection);
    let run = place.run("analyze src --db other.db").await.expect(1);
    assert!(run.error().contains("other.db"), "{run:?}");
    assert!(run.error().contains("no such column: path"), "{run:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_that_may_only_be_read_is_named() {
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let (place, _) = Place::with_files(5);
    place.run("analyze src --db a.db").await.expect(0);
    for (file, mode_of_file, mode_of_directory) in
        [("one/a.db", 0o444, 0o777), ("two/a.db", 0o666, 0o555)]
    {
        let directory = place.path(file).parent().unwrap().to_owned();
        create_dir(&directory).unwrap();
        std::fs::copy(place.path("a.db"), place.path(file)).unwrap();
        set_permissions(place.path(file), Permissions::from_mode(mode_of_file)).unwrap();
        set_permissions(&directory, Permissions::from_mode(mode_of_directory)).unwrap();
        let command = place
            .unprivileged(&format!("analyze src --db {file}"))
            .await;
        let Some(mut command) = command else {
            return;
        };
        let run = crate::run::output(&mut command).await.expect(1);
        set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let expected = format!("perennial: cannot write the database {file}: ");
        assert!(run.error().starts_with(&expected), "{run:?}");
    }
}

#[tokio::test]
async fn a_settings_file_with_errors_is_named() {
    let (place, _) = Place::with_files(5);
    place.write("bad.toml", "[pools.analyzer]\nsise = 3\n");
    let run = place
        .run("analyze src --db a.db --config bad.toml")
        .await
        .expect(1);
    assert!(
        run.stderr
            .contains("bad.toml:2:1: pools.analyzer.sise: unknown field"),
        "{run:?}"
    );
    // Nothing was begun.
    assert!(!place.path("a.db").exists());
}

#[tokio::test]
async fn a_tree_that_does_not_start_says_all_that_led_to_it() {
    let (place, _) = Place::with_files(5);
    place.write(
        "notes.txt",
        "this is a text and not a database\n".repeat(50),
    );
    place.write("p.toml", "[database]\npath = \"notes.txt\"\n");
    let mut command = place.perennial("run --config p.toml");
    let run = crate::run::output(command.env("PERENNIAL_LOG", "off")).await;
    let run = run.expect(1);
    let said = "cannot open database `notes.txt`: file is not a database";
    assert!(run.error().ends_with(said), "{run:?}");
}

#[tokio::test]
async fn a_run_that_cannot_begin_has_its_exit_code_also_where_nobody_reads_why() {
    let (place, _) = Place::with_files(5);
    place.write("good.toml", "");
    for (arguments, code) in [
        ("analyze no/such/place --db a.db", 1),
        ("run --config no_such.toml", 1),
        ("config check no_such.toml", 1),
        ("config check good.toml", 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.perennial(arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        crate::run::output(&mut command).await.expect(code);
    }
}

#[tokio::test]
async fn settings_of_a_pool_that_is_not_there_are_refused() {
    let (place, _) = Place::with_files(5);
    place.write("bad.toml", "[pools.analizer]\nsize = 3\n");
    let run = place
        .run("analyze src --db a.db --config bad.toml")
        .await
        .expect(1);
    assert!(run.error().contains("analizer"), "{run:?}");
}
