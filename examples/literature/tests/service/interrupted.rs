//! Answers that get lost on the way, clients that hang up, and requests that stand in one another's way.

use crate::support::{BOUNDARY, LITERATURES, Service, Setup, part_head, pdf, workbook};
use reqwest::Url;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between the service and its database. Cuts a connection at the commit of an upload, before its answer.
struct Wire {
    url: String,
    cuts: Arc<AtomicUsize>,
}

async fn wire(database: &str) -> Wire {
    let mut url = Url::parse(database).expect("the testkit writes URLs");
    let port = url.port().expect("it names its port");
    let server = (url.host_str().expect("it names its host").to_owned(), port);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let own = listener.local_addr().expect("it is bound");
    url.set_ip_host(own.ip()).expect("it can have one");
    url.set_port(Some(own.port())).expect("it can have one");
    let cuts = Arc::new(AtomicUsize::new(0));
    let counter = cuts.clone();
    tokio::spawn(async move {
        while let Ok((service, _)) = listener.accept().await {
            let server = TcpStream::connect(server.clone()).await.expect("it runs");
            tokio::spawn(pass_on(service, server, counter.clone()));
        }
    });
    Wire {
        url: url.into(),
        cuts,
    }
}

async fn pass_on(service: TcpStream, server: TcpStream, cuts: Arc<AtomicUsize>) {
    let (mut from_service, mut to_service) = service.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_service).await;
    });
    let (mut buffer, mut uploads) = (vec![0; 1 << 16], false);
    while let Ok(read @ 1..) = from_service.read(&mut buffer).await {
        let sent = &buffer[..read];
        let says = |word: &[u8]| sent.windows(word.len()).any(|window| window == word);
        uploads |= says(b"update literatures set pdf_url");
        let cut = uploads && says(b"COMMIT");
        if cut {
            // Before the server can answer.
            back.abort();
        }
        if to_server.write_all(sent).await.is_err() {
            break;
        }
        if cut {
            cuts.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    back.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_commit_is_decided_later_keeps_its_object() {
    let plain = Setup::new().await;
    let database = plain.database.as_ref().expect("it has one");
    let wire = wire(&database.url()).await;
    let setup = Setup::with_database_url(&wire.url);
    let service = setup.start().await;
    let id = service.one_record().await;
    database
        .execute(
            "create function public.slowly() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(2); return null; end $$;
             create constraint trigger slowly after update on asl.literatures deferrable initially deferred
                 for each row when (new.extraction_state = 'pending') execute function public.slowly()",
        )
        .await;
    let begin = Instant::now();
    let answer = service.upload(&id, "x.pdf", &pdf(2)).await;
    assert_eq!(wire.cuts.load(Ordering::Relaxed), 1, "the commit was not cut off");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(begin.elapsed() > Duration::from_secs(1), "{:?}", begin.elapsed());
    let record = service.extracted(&id).await;
    assert_eq!(record["extraction"]["pages"], 2);
    assert_eq!(
        setup.stored_pdfs(),
        [record["pdf_oss_key"].as_str().expect("a key")]
    );
}

/// A file of this many records, from the first to the last or the other way round.
fn records(round: usize, count: usize, backwards: bool) -> Vec<u8> {
    let mut titles: Vec<String> = (0..count)
        .map(|number| format!("Round {round} number {number}"))
        .collect();
    if backwards {
        titles.reverse();
    }
    let rows: Vec<[&str; 1]> = titles.iter().map(|title| [title.as_str()]).collect();
    let mut cells: Vec<&[&str]> = vec![&["title"]];
    cells.extend(rows.iter().map(<[&str; 1]>::as_slice));
    workbook(&cells)
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_that_overlap_both_succeed() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let import = format!("{LITERATURES}/import");
    for round in 0..3 {
        let (one, two) = (records(round, 3_000, false), records(round, 3_000, true));
        let (one, two) = tokio::join!(
            service.send_file(&import, "one.xlsx", &one),
            service.send_file(&import, "two.xlsx", &two),
        );
        let inserted = |answer: &crate::support::Answer| {
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["inserted"].as_u64().expect("a number")
        };
        assert_eq!(inserted(&one) + inserted(&two), 3_000);
    }
    // Tried again is not the same as never in the way.
    let log = service.log().join("\n");
    assert!(!log.contains("the import is tried again"), "{log}");
}

async fn begin(service: &Service, head: &str, body: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", service.port))
        .await
        .expect("it listens");
    socket.write_all(head.as_bytes()).await.expect("it reads");
    socket.write_all(body).await.expect("it reads");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn more_imports_than_the_memory_is_meant_for_are_told_to_come_back() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let import = format!("{LITERATURES}/import");
    let excel = workbook(&[&["title"], &["A"]]);
    let head = format!(
        "POST {import} HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    );
    let part = [part_head("file", "x.xlsx"), excel.clone()].concat();
    let slow = [
        begin(&service, &head, &part).await,
        begin(&service, &head, &part).await,
    ];
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answer = service.send_file(&import, "x.xlsx", &excel).await;
    answer.is_problem(503, "other excel files");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    drop(slow);
    assert_eq!(service.import(&excel).await["inserted"], 1);
}
