//! `perennial run`.

use std::fs::File;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::timeout;

use crate::place::Place;
use crate::run::PATIENCE;
use crate::signals::Running;

#[tokio::test]
async fn configured_actors_run_until_a_signal_ends_them_in_order() {
    let place = Place::empty();
    place.write(
        "p.toml",
        "[host.actors.reporter]\nkind = \"report\"\nevery = \"100ms\"\n",
    );
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut running = Running::start(&mut place.perennial("run --config p.toml"));
        running.wait_for("running").await;
        // The first report may come while the last actors are starting.
        running.wait_for(" actors, 0 restarts, 0 down").await;
        running.signal(signal);
        running.wait_for(&format!("{name}: stopping")).await;
        let run = running.end().await.expect(0);
        assert_eq!(run.stdout, "");
        assert!(
            !run.stderr.contains("did not stop in time"),
            "{}",
            run.stderr
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_end_of_its_session_ends_it_in_order_unless_it_was_started_to_outlive_it() {
    let place = Place::empty();
    let mut running = Running::start(&mut place.perennial_in_a_session("run"));
    running.wait_for("running").await;
    running.signal(Signal::HUP);
    running.wait_for("SIGHUP: stopping").await;
    running.end().await.expect(0);

    let mut command = crate::run::command("nohup");
    let command = command.args([env!("CARGO_BIN_EXE_perennial"), "run"]);
    let mut running = Running::start(command.current_dir(place.root()));
    running.wait_for("running").await;
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    running.wait_for("SIGTERM: stopping").await;
    let run = running.end().await.expect(0);
    assert!(!run.stderr.contains("SIGHUP"), "{}", run.stderr);
}

#[tokio::test]
async fn an_actor_keeps_the_analysis_of_its_paths_up_to_date() {
    let (place, mut corpus) = Place::with_files(20);
    place.write(
        "p.toml",
        "[database]\npath = \"a.db\"\n\n[host.actors.sources]\nkind = \"analyze\"\npaths = [\"src\"]\nevery = \"100ms\"\n",
    );
    let mut running = Running::start(&mut place.perennial("run --config p.toml"));
    running
        .wait_for("analysis is up to date analyzed=20 unchanged=0 failed=0")
        .await;
    let new = place.path("src/new.rs");
    // Appears at once and whole.
    let figures = crate::corpus::write(&place.path("elsewhere.rs"), 77, 2);
    std::fs::rename(place.path("elsewhere.rs"), &new).unwrap();
    corpus.files.insert(new, figures);
    running
        .wait_for("analysis is up to date analyzed=1 unchanged=20 failed=0")
        .await;
    running.signal(Signal::TERM);
    running.end().await.expect(0);
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}

#[tokio::test]
async fn an_actor_whose_path_is_gone_names_it_and_keeps_the_others_up_to_date() {
    let (place, corpus) = Place::with_files(20);
    place.write("gone/a.rs", "fn a() {}\n");
    place.write(
        "p.toml",
        "[database]\npath = \"a.db\"\n\n[host.actors.sources]\nkind = \"analyze\"\n\
         paths = [\"gone\", \"src\"]\nevery = \"100ms\"\n",
    );
    place.run("analyze gone src --db a.db").await.expect(0);
    std::fs::rename(place.path("gone"), place.path("elsewhere")).unwrap();
    let mut running = Running::start(&mut place.perennial("run --config p.toml"));
    running
        .wait_for("not analyzed: gone: No such file or directory")
        .await;
    running.wait_for("analyzed=0 unchanged=20 failed=1").await;
    std::fs::rename(place.path("elsewhere"), place.path("gone")).unwrap();
    // What is known of it has stayed.
    running.wait_for("analyzed=0 unchanged=21 failed=0").await;
    running.signal(Signal::TERM);
    running.end().await.expect(0);
    assert_eq!(place.rows("a.db").files().len(), corpus.files.len() + 1);
}

#[tokio::test]
async fn a_file_with_errors_is_not_run() {
    let place = Place::empty();
    place.write(
        "p.toml",
        "[host.actors.reporter]\nkind = \"repotr\"\nevery = \"1s\"\n",
    );
    let run = place.run("run --config p.toml").await.expect(1);
    assert!(
        run.stderr
            .contains("p.toml:2:8: host.actors.reporter.kind: "),
        "{run:?}"
    );
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let place = Place::empty();
    let mut running = Running::start(&mut place.perennial("run"));
    running.wait_for("running").await;
    // What it logs about its stop can't be written.
    assert_eq!(running.end_unheard(Signal::TERM).await, Some(0));
}

/// A signal that comes while an actor is at something that takes for ever.
#[tokio::test]
async fn the_exit_code_says_whether_a_shutdown_cut_something_off() {
    let place = Place::empty();
    place.write(
        "p.toml",
        "[supervision]\nshutdown_deadline = \"100ms\"\n\n\
         [host.actors.sources]\nkind = \"analyze\"\npaths = [\"src\"]\nevery = \"1h\"\n",
    );
    // The walk reads it, for as long as somebody may write to it.
    let pipe = place.path("src/.gitignore");
    let made = Command::new("mkfifo").arg(&pipe).status().await.unwrap();
    assert!(made.success());
    let mut running = Running::start(&mut place.perennial("run --config p.toml"));
    running.wait_for("running").await;
    // Opens once the walk has.
    let writer = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || File::options().write(true).open(pipe).unwrap()
    });
    let Ok(writer) = timeout(PATIENCE, writer).await else {
        // Whoever opens it for both lets go who waits.
        drop(File::options().read(true).write(true).open(&pipe));
        panic!("the walk never begins");
    };
    running.signal(Signal::TERM);
    running.wait_for("perennial: cut off by the shutdown").await;
    running
        .wait_for("perennial/host/sources: did not stop in time and was killed")
        .await;
    running.end().await.expect(3);
    drop(writer);
}

#[tokio::test]
async fn a_signal_ends_a_start_that_hangs() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let place = Place::empty();
        place.write("p.toml", "[database]\npath = \"a.db\"\n");
        // Its start waits for the database, which somebody else has for themselves.
        let holder = rusqlite::Connection::open(place.path("a.db")).unwrap();
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let mut running = Running::start(&mut place.perennial("run --config p.toml"));
        running.wait_for("starting").await;
        running.signal(signal);
        running.wait_for(&format!("{name}: stopping")).await;
        let run = running.end().await.expect(0);
        assert!(!run.stderr.contains("running;"), "{}", run.stderr);
        holder.execute_batch("ROLLBACK").unwrap();
    }
}
