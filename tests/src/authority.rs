//! A time-stamp authority: OpenSSL behind a small HTTP server.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It stamps.
    Well,
    /// It answers with an error of HTTP.
    Broken,
    /// It refuses as RFC 3161 has it.
    Refusing,
    /// It says nothing for longer than anybody waits.
    Slow,
    /// It gives again what it gave first.
    Replaying,
    /// It never ends.
    Endless,
}

/// An authority under a root of its own.
pub struct Authority {
    dir: TempDir,
    /// Where it is asked.
    pub url: String,
    /// How it behaves from now on.
    pub mood: Arc<Mutex<Mood>>,
}

fn openssl(dir: &Path, arguments: &str) -> bool {
    let done = Command::new("openssl").current_dir(dir).args(arguments.split_whitespace()).output().expect("openssl runs");
    done.status.success()
}

impl Authority {
    /// Starts one, for as long as the test lasts.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("it is written");
        write("leaf.ext", "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n");
        write(
            "ts.cnf",
            "[t]\nserial=./serial\nsigner_digest=sha256\ndefault_policy=1.3.6.1.4.1.99999.1\ndigests=sha256\ness_cert_id_alg=sha256\n",
        );
        write("serial", "01\n");
        for arguments in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -days 30 \
             -subj /O=OpenMediaTrust/CN=Time-Root -addext keyUsage=critical,keyCertSign",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /O=OpenMediaTrust/CN=Time",
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.pem",
        ] {
            assert!(openssl(dir.path(), arguments), "openssl {arguments}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/stamp", listener.local_addr().expect("an address"));
        let mood = Arc::new(Mutex::new(Mood::Well));
        let (there, how) = (dir.path().to_owned(), mood.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mood = *how.lock().expect("nobody panicked");
                // One after the other: OpenSSL counts in a file.
                answer(stream, &there, mood).await;
            }
        });
        Self { dir, url, mood }
    }

    /// Its root, PEM.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// Configuration that has it asked, and trusted.
    pub fn config(&self) -> String {
        format!(
            "[timestamp]\nurl = \"{}\"\ntimeout_seconds = 5\n[trust]\ntimestamp_anchors = [\"{}\"]\n",
            self.url,
            self.root().display()
        )
    }

    /// Has it behave in another way.
    pub fn behave(&self, mood: Mood) {
        *self.mood.lock().expect("nobody panicked") = mood;
    }
}

async fn answer(mut stream: TcpStream, dir: &Path, mood: Mood) {
    let Some(query) = body(&mut stream).await else { return };
    std::fs::write(dir.join("query"), query).expect("it is written");
    let (first, last) = (dir.join("first"), dir.join("reply"));
    match mood {
        Mood::Well => {
            assert!(openssl(
                dir,
                "ts -reply -queryfile query -signer leaf.pem -inkey leaf.key -config ts.cnf -section t -out reply"
            ));
            if !first.exists() {
                std::fs::copy(&last, &first).expect("it is copied");
            }
        }
        // SEQUENCE { SEQUENCE { INTEGER 2, SEQUENCE { UTF8String "not today" } } }
        Mood::Refusing => std::fs::write(&last, b"\x30\x12\x30\x10\x02\x01\x02\x30\x0b\x0c\x09not today").expect("it is written"),
        Mood::Replaying => drop(std::fs::copy(&first, &last).expect("it stamped before")),
        Mood::Slow => {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                drop(stream);
            });
            return;
        }
        Mood::Broken => {
            let _ = stream.write_all(b"HTTP/1.1 500 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return;
        }
        Mood::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n").await;
            while stream.write_all(&[0x30; 4096]).await.is_ok() {}
            return;
        }
    }
    let reply = std::fs::read(last).expect("there is a reply");
    let kind = "content-type: application/timestamp-reply";
    let head = format!("HTTP/1.1 200 x\r\n{kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", reply.len());
    let _ = stream.write_all(&[head.as_bytes(), &reply].concat()).await;
}

/// The body of a request, which is no text.
async fn body(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        assert!(head.contains("content-type: application/timestamp-query"), "{head}");
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or_default();
        if bytes.len() >= end + 4 + length {
            return Some(bytes[end + 4..].to_vec());
        }
    }
}
