//! Ctrl-C, and the other signals that ask a run to stop.

use rustix::process::Signal;

use crate::place::Place;
use crate::rows::Rows;
use crate::signals::Running;

const FILES: usize = 200;

#[tokio::test]
async fn ctrl_c_keeps_what_was_analyzed_and_another_run_does_the_rest() {
    let (place, corpus) = Place::with_files(FILES);
    place.run("analyze src --db calm.db").await.expect(0);

    // Two seconds for all files.
    let mut command = place.perennial("analyze src --db a.db --json --rate 100");
    let mut running = Running::start(&mut command);
    let first = running.committed().await.expect("something is committed");
    running.signal(Signal::INT);
    let run = running.end().await.expect(130);
    assert!(run.stderr.contains("perennial: stopping"), "{}", run.stderr);

    let json = run.json();
    assert_eq!(json["interrupted"], true);
    assert_eq!(json["files"]["found"], FILES);
    let analyzed = json["files"]["analyzed"].as_u64().unwrap();
    assert!(
        (first as u64..FILES as u64).contains(&analyzed),
        "{analyzed}"
    );
    let rows = Rows::read_sound(&place.path("a.db"));
    assert_eq!(rows.files().len() as u64, analyzed);
    for (path, figures) in rows.figures() {
        assert_eq!(figures, corpus.files[&path]);
    }

    let json = place
        .run("analyze src --db a.db --json")
        .await
        .expect(0)
        .json();
    assert_eq!(json["files"]["unchanged"], analyzed);
    assert_eq!(json["files"]["analyzed"], FILES as u64 - analyzed);
    assert_eq!(place.rows("a.db"), place.rows("calm.db"));
}

#[tokio::test]
async fn every_signal_that_asks_it_to_stop_ends_it_in_order_with_its_own_exit_code() {
    let (place, _) = Place::with_files(FILES);
    for (database, signal, code) in [
        ("term.db", Signal::TERM, 143),
        #[cfg(target_os = "linux")]
        ("hup.db", Signal::HUP, 129),
    ] {
        let arguments = format!("analyze src --db {database} --json --rate 100");
        let mut command = place.perennial_in_a_session(&arguments);
        let mut running = Running::start(&mut command);
        running.committed().await.expect("something is committed");
        running.signal(signal);
        running.wait_for("perennial: stopping").await;
        let json = running.end().await.expect(code).json();
        assert_eq!(json["interrupted"], true);
        let rows = Rows::read_sound(&place.path(database)).files().len();
        assert_eq!(json["files"]["analyzed"], rows);
        assert!(rows < FILES, "{json:#}");
    }
}

#[tokio::test]
async fn ctrl_c_does_not_wait_for_what_was_not_begun() {
    let (place, _) = Place::with_files(FILES);
    // At this rate what was read ahead would take a minute.
    let mut command = place.perennial("analyze src --db a.db --json --rate 1 --workers 1");
    let mut running = Running::start(&mut command);
    running.committed().await.expect("something is committed");
    running.signal(Signal::INT);
    let json = running.end().await.expect(130).json();
    assert!(json["files"]["analyzed"].as_u64().unwrap() < 10, "{json:#}");
}

#[tokio::test]
async fn ctrl_c_removes_nothing() {
    let (place, _) = Place::with_files(FILES);
    place.run("analyze src --db a.db").await.expect(0);
    let before = place.rows("a.db");
    let gone = place.path("src/part_0");
    std::fs::remove_dir_all(&gone).unwrap();
    for number in 0..FILES {
        place.write(
            &format!("src/new/file_{number}.py"),
            "def new():\n    pass\n",
        );
    }
    let mut command = place.perennial("analyze src --db a.db --rate 100");
    let mut running = Running::start(&mut command);
    running.committed().await.expect("something is committed");
    running.signal(Signal::INT);
    let run = running.end().await.expect(130);
    assert!(run.stdout.contains("\ninterrupted: "), "{}", run.stdout);
    assert!(before.files().is_subset(&place.rows("a.db").files()));
}

#[tokio::test]
async fn a_second_ctrl_c_gives_up_what_is_in_flight() {
    let (place, _) = Place::with_files(FILES);
    let mut command = place.perennial("analyze src --db a.db --rate 1 --workers 20");
    let mut running = Running::start(&mut command);
    running.committed().await.expect("something is committed");
    running.signal(Signal::INT);
    running.wait_for("press Ctrl-C again").await;
    // Forty files are in flight, most of a minute's work at this rate.
    running.signal(Signal::INT);
    let run = running.end().await.expect(130);
    assert_eq!(run.stdout, "", "it went on to its report");
    Rows::read_sound(&place.path("a.db"));
    place.run("analyze src --db a.db").await.expect(0);
}
