//! One run over files that are all good.

use std::collections::BTreeMap;

use crate::corpus::LANGUAGES;
use crate::place::Place;

#[tokio::test]
async fn every_figure_in_the_database_is_as_the_files_were_made() {
    let (place, corpus) = Place::with_files(300);
    place.run("analyze src --db a.db").await.expect(0);
    let rows = place.rows("a.db");
    assert_eq!(rows.figures(), corpus.files);
    assert!(rows.failures().is_empty());
    for path in corpus.files.keys() {
        assert_eq!(rows.syntax_errors(path), Some(0));
    }
}

#[tokio::test]
async fn the_table_adds_up_each_language_and_names_the_worst_functions() {
    let (place, corpus) = Place::with_files(100);
    let run = place.run("analyze src --db a.db --quiet").await.expect(0);
    assert_eq!(run.stderr, "");

    let header: Vec<&str> = run
        .stdout
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        header,
        [
            "language",
            "files",
            "lines",
            "code",
            "comment",
            "blank",
            "functions",
            "worst",
            "broken"
        ],
    );
    let mut table: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for line in run.stdout.lines().skip(1).take(LANGUAGES.len()) {
        let mut cells = line.split_whitespace();
        let language = cells.next().unwrap();
        table.insert(language, cells.map(|it| it.parse().unwrap()).collect());
    }
    for (language, _) in LANGUAGES {
        let files = || corpus.files.values().filter(|it| it.language == language);
        let functions = || files().flat_map(|it| &it.functions);
        let expected = [
            i64::try_from(files().count()).unwrap(),
            files().map(|it| it.lines).sum(),
            files().map(|it| it.code).sum(),
            files().map(|it| it.comment).sum(),
            files().map(|it| it.blank).sum(),
            i64::try_from(functions().count()).unwrap(),
            functions()
                .map(|(.., complexity)| *complexity)
                .max()
                .unwrap(),
            0,
        ];
        assert_eq!(table[language], expected, "{language}\n{}", run.stdout);
    }

    let (_, after) = run.stdout.split_once("Most complex functions\n").unwrap();
    let mut worst: Vec<(i64, &String, String)> = Vec::new();
    for (path, figures) in &corpus.files {
        let path = path.strip_prefix(place.root()).unwrap().display();
        for (name, line, complexity) in &figures.functions {
            worst.push((-complexity, name, format!("{path}:{line}")));
        }
    }
    // Equals stand in the order of their paths.
    worst.sort_by_key(|(complexity, ..)| *complexity);
    let expected: Vec<_> = worst
        .iter()
        .take(10)
        .map(|(complexity, name, place)| {
            vec![(-complexity).to_string(), (*name).clone(), place.clone()]
        })
        .collect();
    let named: Vec<Vec<String>> = after
        .lines()
        .take(10)
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(named, expected);
    assert!(
        run.stdout.contains("\n100 files analyzed in "),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("\ntree: "), "{}", run.stdout);
}

#[tokio::test]
async fn without_a_terminal_there_is_neither_progress_nor_colour() {
    let (place, _) = Place::with_files(10);
    let run = place.run("analyze src --db a.db --tree").await.expect(0);
    assert_eq!(run.stderr, "");
    assert!(!run.stdout.contains('\u{1b}'), "{}", run.stdout);

    let mut logged = place.perennial("analyze src --db b.db");
    let run = crate::run::output(logged.env("PERENNIAL_LOG", "info")).await;
    assert!(
        run.stderr.contains("INFO") && !run.stderr.contains('\u{1b}'),
        "{}",
        run.stderr
    );
}

#[tokio::test]
async fn the_tree_is_printed_when_asked_for() {
    let (place, _) = Place::with_files(5);
    let run = place.run("analyze src --db a.db").await.expect(0);
    assert!(!run.stdout.contains("registry"));
    let run = place.run("analyze src --db a.db --tree").await.expect(0);
    for actor in [
        "registry",
        "rate_gate",
        "breakers",
        "pools",
        "analysis",
        "debug",
    ] {
        assert!(
            run.stdout.contains(&format!("── {actor} ")),
            "{}",
            run.stdout
        );
    }
}

#[tokio::test]
async fn the_database_is_perennial_db_unless_another_is_named() {
    let (place, corpus) = Place::with_files(5);
    place.run("analyze src").await.expect(0);
    assert_eq!(place.rows("perennial.db").figures(), corpus.files);
}

#[tokio::test]
async fn what_git_ignores_and_what_is_no_source_is_left_out() {
    let (place, corpus) = Place::with_files(5);
    place.write("src/.gitignore", "generated/\n*_pb.py\n");
    place.write("src/generated/made.rs", "fn made() {}\n");
    place.write("src/api_pb.py", "def api():\n    pass\n");
    place.write("src/notes.txt", "fn not_rust() {}\n");
    place.write("src/.hidden/secret.rs", "fn secret() {}\n");
    place.run("analyze src --db a.db").await.expect(0);
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}

#[tokio::test]
async fn files_and_directories_that_overlap_are_analyzed_once() {
    let (place, corpus) = Place::with_files(20);
    let file = corpus.files.keys().next().unwrap();
    let arguments = format!("analyze src src/part_1 {} --db a.db --json", file.display());
    let json = place.run(&arguments).await.expect(0).json();
    assert_eq!(json["files"]["found"], 20);
    assert_eq!(json["files"]["analyzed"], 20);
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}

#[tokio::test]
async fn any_number_of_workers_gives_the_same_rows() {
    let (place, corpus) = Place::with_files(60);
    for workers in [1, 2, 7] {
        let database = format!("{workers}.db");
        let arguments = format!("analyze src --db {database} --workers {workers}");
        place.run(&arguments).await.expect(0);
        assert_eq!(place.rows(&database), place.rows("1.db"));
    }
    assert_eq!(place.rows("1.db").figures(), corpus.files);
}

#[tokio::test]
async fn a_directory_without_sources_is_analyzed_to_nothing() {
    let place = Place::empty();
    let run = place.run("analyze src --db a.db").await.expect(0);
    assert!(run.stdout.contains("0 files analyzed"), "{}", run.stdout);
    assert_eq!(place.rows("a.db").figures(), BTreeMap::new());
}

#[tokio::test]
async fn a_reader_who_has_read_enough_is_no_error() {
    let (place, corpus) = Place::with_files(20);
    for arguments in [
        "analyze src --db a.db --tree",
        "analyze src --db a.db --json",
    ] {
        let mut child = place.perennial(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let run = child.wait_with_output().await.unwrap();
        assert_eq!((run.status.code(), &*run.stderr), (Some(0), &b""[..]));
    }
    assert_eq!(place.rows("a.db").figures(), corpus.files);
}

#[tokio::test]
async fn settings_of_the_tree_come_from_the_file_unless_the_command_line_has_them() {
    let (place, _) = Place::with_files(5);
    place.write(
        "p.toml",
        "[pools.analyzer]\nsize = 3\n\n[quotas.analysis]\nlimit = 0\nperiod = \"1s\"\n",
    );
    let arguments = "analyze src --db a.db --config p.toml --json --rate 100";
    for (more, size) in [("", 3), ("--workers 2", 2)] {
        let json = place
            .run(&format!("{arguments} {more}"))
            .await
            .expect(0)
            .json();
        let pools = json["tree"]["pools"].as_array().unwrap();
        let analyzer = pools.iter().find(|it| it["name"] == "analyzer").unwrap();
        assert_eq!(analyzer["size"], size);
    }
}
