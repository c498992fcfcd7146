use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use perennial_lifecycle::ExitReason;
use perennial_pool::{Pool, PoolConfig, WorkerError};
use perennial_supervisor::{RestartIntensity, Supervisor};

use super::*;
use crate::analysis::{Analyzer, Language};

/// Many restarts are what these tests are about.
const OFTEN: RestartIntensity = RestartIntensity::new(1000, Duration::from_secs(1));

async fn pool(worker: AnalyzerWorker) -> (Pool<AnalyzerWorker>, Supervisor) {
    let pool = Pool::new("analyzer", worker, PoolConfig::new(1)).unwrap();
    let tree = Supervisor::builder()
        .intensity(OFTEN)
        .child(pool.child_spec())
        .build()
        .unwrap()
        .start("test")
        .await
        .unwrap();
    (pool, tree)
}

#[tokio::test]
async fn a_worker_reports_what_the_analyzer_reports() {
    let (pool, _tree) = pool(AnalyzerWorker::new()).await;
    let worker = pool.checkout().await.unwrap();
    for (language, source) in [
        (Language::Rust, "fn f(a: bool) { if a {} }"),
        (Language::Python, "def f():\n  pass\n"),
        (Language::Erlang, "f( -> broken"),
        (Language::Rust, "struct S;"),
    ] {
        let report = worker.analyze(language, source).await.unwrap();
        assert_eq!(report, Analyzer::new().analyze(language, source));
    }
}

#[tokio::test]
async fn a_panic_ends_the_worker_and_reaches_the_holder_with_its_message() {
    let worker = AnalyzerWorker::with(|language, source| {
        assert!(!source.contains("bomb"), "{source} in {language}");
        Analyzer::new().analyze(language, source)
    });
    let (pool, _tree) = pool(worker).await;
    for _ in 0..5 {
        let worker = pool.checkout().await.unwrap();
        match worker.analyze(Language::Rust, "bomb").await.unwrap_err() {
            WorkerError::Died {
                reason: ExitReason::Panicked { message, .. },
            } => {
                assert_eq!(&*message, "bomb in Rust");
            }
            other => panic!("{other:?}"),
        }
        drop(worker);
        let worker = pool.checkout().await.unwrap();
        assert_eq!(
            worker
                .analyze(Language::Rust, "fn f() {}")
                .await
                .unwrap()
                .functions()
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn a_file_under_analysis_does_not_hold_up_the_runtime() {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let worker = AnalyzerWorker::with(move |language, source| {
        may_go.lock().unwrap().recv().unwrap();
        Analyzer::new().analyze(language, source)
    });
    let (pool, _tree) = pool(worker).await;
    let worker = pool.checkout().await.unwrap();
    // One thread runs both: the second can only let the first go if that does not block it.
    let (report, ()) = tokio::join!(worker.analyze(Language::Rust, ""), async {
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    });
    assert_eq!(report.unwrap().lines.total, 0);
}

#[tokio::test]
async fn a_worker_that_is_killed_at_work_is_replaced() {
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let worker = AnalyzerWorker::with(move |language, source| {
        begun.blocking_send(()).unwrap();
        // Returns once the test has let go of the other end.
        assert!(may_go.lock().unwrap().recv().is_err());
        Analyzer::new().analyze(language, source)
    });
    let (pool, _tree) = pool(worker).await;
    let worker = pool.checkout().await.unwrap();
    let (ended, ()) = tokio::join!(worker.analyze(Language::Rust, ""), async {
        has_begun.recv().await.unwrap();
        worker.incarnation().kill();
    });
    assert!(matches!(
        ended,
        Err(WorkerError::Died {
            reason: ExitReason::Killed
        })
    ));
    drop((worker, go));
    let worker = pool.checkout().await.unwrap();
    let (report, begun) = tokio::join!(worker.analyze(Language::Rust, ""), has_begun.recv());
    assert!(report.is_ok() && begun.is_some());
}

#[tokio::test]
async fn a_worker_whose_caller_gave_up_is_replaced() {
    let (pool, _tree) = pool(AnalyzerWorker::new()).await;
    let worker = pool.checkout().await.unwrap();
    let run = Arc::clone(worker.incarnation());
    // A malformed source, on which the parser takes long.
    let source: Arc<str> = "[".repeat(1_000_000).into();
    tokio::select! {
        biased;
        _ = worker.analyze(Language::JavaScript, source) => panic!("not so quick"),
        () = async { while run.in_hand().is_none() { tokio::task::yield_now().await; } } => {}
    }
    drop(worker);
    let worker = pool.checkout().await.unwrap();
    assert!(!Arc::ptr_eq(worker.incarnation(), &run));
    assert!(worker.analyze(Language::Rust, "fn f() {}").await.is_ok());
}

#[test]
fn the_files_behind_the_one_at_which_the_caller_gave_up_are_not_analyzed() {
    // With one thread for what blocks, whatever is given to it runs when all before it has ended.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(2);
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = std::sync::Mutex::new(may_go);
        let worker = AnalyzerWorker::with(move |language, source| {
            begun.try_send(source.to_owned()).unwrap();
            // Returns once the test has let go of the other end.
            assert!(may_go.lock().unwrap().recv().is_err());
            Analyzer::new().analyze(language, source)
        });
        let (pool, _tree) = pool(worker).await;
        let worker = pool.checkout().await.unwrap();
        let files = ["first", "second"].map(|source| (Language::Rust, source.into()));
        tokio::select! {
            biased;
            _ = worker.analyze_all(files.into()) => panic!("not so quick"),
            first = has_begun.recv() => assert_eq!(first.as_deref(), Some("first")),
        }
        drop((worker, go));
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(has_begun.try_recv().ok(), None);
    });
}

#[test]
fn public_types_are_debug_send_and_sync() {
    fn check<T: std::fmt::Debug + Send + Sync>() {}
    check::<AnalyzerWorker>();
    check::<AnalyzerClient>();
}
