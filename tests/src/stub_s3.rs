//! An S3 service in memory that does as a test says: it answers by itself what the rule of the test leaves to it. It checks no
//! signatures.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};
use time::{OffsetDateTime, macros::format_description};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` and so on.
    pub method: String,
    /// The bucket, and the key behind it.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A parameter of the query, where it is there.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find_map(|(n, v)| (n == name).then_some(v))
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body, which answers to `HEAD` leave out.
    pub body: Vec<u8>,
}

impl Answer {
    /// A status with a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// An error as S3 words it.
    pub fn error(status: u16, code: &str) -> Self {
        Self::new(status, format!("<Error><Code>{code}</Code><Message>as told</Message></Error>"))
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Rule = dyn Fn(&Request) -> Option<Answer> + Send + Sync;

struct State {
    rule: Box<Rule>,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Objects that were there before.
    old: Mutex<BTreeSet<String>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<u32, Vec<u8>>>>,
    asked: Mutex<Vec<Request>>,
    skew: AtomicI64,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The service; it ends when it is dropped.
pub struct StubS3 {
    port: u16,
    state: Arc<State>,
}

impl StubS3 {
    /// A service that answers what the rule does, and by itself where the rule has nothing to say.
    pub fn start(rule: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            rule: Box::new(rule),
            objects: Mutex::default(),
            old: Mutex::default(),
            uploads: Mutex::default(),
            asked: Mutex::default(),
            skew: AtomicI64::new(0),
            stop: AtomicBool::new(false),
        });
        let serving = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let state = serving.clone();
                // Who goes away in the middle needs no answer.
                std::thread::spawn(move || drop(serve(&state, &stream)));
            }
        });
        Self { port, state }
    }

    /// The URL of a bucket there.
    pub fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint=http://127.0.0.1:{}&path_style=true&region=us-east-1", self.port)
    }

    /// Its clock is ahead by this, from now on.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.state.skew.store(seconds, Ordering::SeqCst);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        lock(&self.state.asked).clone()
    }

    /// Has it hold an object, for months.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        lock(&self.state.old).insert(key.to_owned());
        lock(&self.state.objects).insert(key.to_owned(), bytes.to_vec());
    }

    /// The names of what it holds.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.state.objects).keys().cloned().collect()
    }
}

impl Drop for StubS3 {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for callers; one that has ended needs no waking.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn read(stream: &TcpStream, reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    if headers.contains_key("expect") {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, headers, body }))
}

fn serve(state: &State, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(stream, &mut reader)? {
        let answer = (state.rule)(&request).unwrap_or_else(|| by_itself(state, &request));
        let now = OffsetDateTime::now_utc() + time::Duration::seconds(state.skew.load(Ordering::SeqCst));
        let date = http_date(now);
        let mut head = format!("HTTP/1.1 {} As told\r\nDate: {date}\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
        }
        head.push_str("\r\n");
        let quiet = request.method == "HEAD";
        lock(&state.asked).push(request);
        (&*stream).write_all(head.as_bytes())?;
        if !quiet {
            (&*stream).write_all(&answer.body)?;
        }
    }
    Ok(())
}

fn http_date(at: OffsetDateTime) -> String {
    let form = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    at.format(&form).expect("a date can be written")
}

fn by_itself(state: &State, request: &Request) -> Answer {
    let (_, key) = request.path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let has = |name| request.parameter(name).is_some();
    match request.method.as_str() {
        "HEAD" if key.is_empty() => Answer::new(200, "").with("x-amz-bucket-region", "us-east-1"),
        "GET" if has("list-type") => list(state, request),
        "GET" if key.is_empty() => of_bucket(&has),
        "POST" if has("uploads") => {
            let mut uploads = lock(&state.uploads);
            let id = format!("upload-{}", uploads.len() + 1);
            let body = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
            uploads.insert(id, BTreeMap::new());
            Answer::new(200, body)
        }
        "POST" => {
            let parts = lock(&state.uploads).remove(request.parameter("uploadId").unwrap_or_default()).unwrap_or_default();
            lock(&state.objects).insert(key.to_owned(), parts.into_values().flatten().collect());
            Answer::new(200, "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>")
        }
        "PUT" if has("uploadId") => {
            let number = request.parameter("partNumber").and_then(|n| n.parse().ok()).unwrap_or(0);
            if let Some(parts) = lock(&state.uploads).get_mut(request.parameter("uploadId").unwrap_or_default()) {
                parts.insert(number, request.body.clone());
            }
            Answer::new(200, "").with("ETag", "\"x\"")
        }
        "PUT" => {
            lock(&state.objects).insert(key.to_owned(), request.body.clone());
            Answer::new(200, "").with("ETag", "\"x\"")
        }
        "DELETE" if has("uploadId") => {
            let gone = lock(&state.uploads).remove(request.parameter("uploadId").unwrap_or_default());
            gone.map_or_else(|| Answer::error(404, "NoSuchUpload"), |_| Answer::new(204, ""))
        }
        "DELETE" => {
            lock(&state.objects).remove(key);
            Answer::new(204, "")
        }
        _ => object(state, key, request),
    }
}

fn object(state: &State, key: &str, request: &Request) -> Answer {
    let objects = lock(&state.objects);
    let Some(bytes) = objects.get(key) else { return Answer::error(404, "NoSuchKey") };
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(state.skew.load(Ordering::SeqCst));
    let modified = if lock(&state.old).contains(key) { "Thu, 01 Jan 2026 00:00:00 GMT".to_owned() } else { http_date(now) };
    let answer = |status, part: &[u8]| {
        let answer = Answer::new(status, part).with("Last-Modified", &modified);
        answer.with("Content-Length", &part.len().to_string())
    };
    let range = request.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let bounds = range.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?)));
    match bounds.and_then(|(from, to)| bytes.get(from..(to + 1).min(bytes.len()))) {
        Some(part) => answer(206, part),
        None => answer(200, bytes),
    }
}

/// Every object behind the prefix, as if it had been there since the beginning of 2026.
fn list(state: &State, request: &Request) -> Answer {
    let text = |name| request.parameter(name).unwrap_or_default().replace("%2F", "/");
    let (prefix, after) = (text("prefix"), text("start-after"));
    let objects = lock(&state.objects);
    let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let contents = found.map(|(key, bytes)| {
        let size = bytes.len();
        format!("<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>")
    });
    let contents: String = contents.collect();
    Answer::new(200, format!("<ListBucketResult>{contents}<IsTruncated>false</IsTruncated></ListBucketResult>"))
}

/// What a bucket that is as it should be says of itself.
fn of_bucket(has: &dyn Fn(&'static str) -> bool) -> Answer {
    if has("publicAccessBlock") {
        let all = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
        let all = all.map(|name| format!("<{name}>true</{name}>")).concat();
        return Answer::new(200, format!("<PublicAccessBlockConfiguration>{all}</PublicAccessBlockConfiguration>"));
    }
    match () {
        () if has("policy") => Answer::error(404, "NoSuchBucketPolicy"),
        () if has("acl") => Answer::new(200, "<AccessControlPolicy></AccessControlPolicy>"),
        () if has("lifecycle") => Answer::error(404, "NoSuchLifecycleConfiguration"),
        () => Answer::new(200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>"),
    }
}
