//! Mail over SMTP.

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        client::{Certificate, Tls, TlsParameters},
        response::Category,
    },
};
use omt_kernel::{
    Error, Kind, Result,
    port::{Mail, Mailer},
    url::without_secret,
};
use std::{path::PathBuf, time::Duration};

/// How long the server may take for each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// The mail server.
#[derive(Clone, Default)]
pub struct MailSettings {
    /// `smtps://user:password@host`, or `smtp://host?tls=required` for STARTTLS.
    pub url: String,
    /// Who writes.
    pub from: String,
    /// PEM certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A mail server.
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    domain: String,
    described: String,
}

impl SmtpMailer {
    /// Reads the settings; connects when the first mail is sent.
    pub fn new(settings: &MailSettings) -> Result<Self> {
        let bad = |words: String| Error::new(Kind::Invalid, "BAD_CONFIGURATION", words);
        let url = url::Url::parse(&settings.url).map_err(|_| bad("[email] url is no URL".to_owned()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let from: Mailbox = settings.from.parse().map_err(|_| bad("[email] from is no address".to_owned()))?;
        // The library's words may hold the URL, and with it the password.
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.url)
            .map_err(|_| bad("[email] url must be smtps://… or smtp://…, with tls=required for STARTTLS".to_owned()))?
            .timeout(Some(PATIENCE));
        if let Some(path) = &settings.ca_file {
            let fault = |words: String| bad(format!("[email] ca_file {}: {words}", path.display()));
            let pem = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
            let certificate = Certificate::from_pem(&pem).map_err(|e| fault(e.to_string()))?;
            let tls = TlsParameters::builder(host).add_root_certificate(certificate).build_rustls();
            let tls = tls.map_err(|e| fault(e.to_string()))?;
            builder = match (url.scheme(), url.query()) {
                ("smtps", _) => builder.tls(Tls::Wrapper(tls)),
                (_, Some(query)) if query.contains("tls=required") => builder.tls(Tls::Required(tls)),
                (_, Some(query)) if query.contains("tls=opportunistic") => builder.tls(Tls::Opportunistic(tls)),
                _ => return Err(fault("the url asks for no TLS".to_owned())),
            };
        }
        let domain = from.email.domain().to_owned();
        Ok(Self { transport: builder.build(), from, domain, described: without_secret(&settings.url) })
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        let unfit = |words: String| Error::new(Kind::Unprocessable, "MAIL_REFUSED", words);
        let to: Mailbox = mail.to.parse().map_err(|_| unfit("the address is none".to_owned()))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .message_id(Some(format!("<{}@{}>", mail.id, self.domain)))
            .subject(&mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .map_err(|e| unfit(e.to_string()))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            // The server says that no attempt will do (RFC 5321 §4.2.1), unless it is us whom it does not know (x3x: RFC 4954 §6),
            // which somebody may mend.
            Err(error) if error.is_permanent() && error.status().is_none_or(|code| code.category != Category::Unspecified3) => {
                // Its words hold the address.
                let code = error.status().map_or_else(|| "for good".to_owned(), |code| code.to_string());
                Err(unfit(format!("the mail server refuses: {code}")))
            }
            Err(error) => {
                let words = "the mail server does not take mail";
                Err(Error::new(Kind::Unavailable, "MAIL_UNAVAILABLE", words).caused_by(error))
            }
        }
    }

    async fn check(&self) -> Result<()> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(Kind::Unavailable, "MAIL_UNAVAILABLE", "the mail server does not take mail")),
            Err(error) => Err(Error::new(Kind::Unavailable, "MAIL_UNAVAILABLE", "no mail server").caused_by(error)),
        }
    }

    fn describe(&self) -> String {
        self.described.clone()
    }
}
