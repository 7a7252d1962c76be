//! Is a token that grew old renewed, once for all who wait, and kept?

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sess_tests::harness::{Daemon, Plan, said};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Calls that need the same token at the same time.
const CROWD: usize = 8;
/// What the token of this number looks like; of no shape that is known.
fn access(number: usize) -> String {
    format!("canary/access/{number}/77aa11bb22cc33dd")
}

fn refresh(number: usize) -> String {
    format!("canary/refresh/{number}/88ee99ff00aa11bb")
}

/// A provider that lets in with its newest token only, and renews with each refresh token once.
#[derive(Default)]
struct Provider {
    /// The number of the newest token.
    newest: usize,
    renewals: usize,
    asked: usize,
    /// Renews nothing any more.
    is_shut: bool,
}

/// Starts the provider; answers where it is.
async fn provider() -> (Arc<Mutex<Provider>>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let provider = Arc::new(Mutex::new(Provider::default()));
    let state = Arc::clone(&provider);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&state)));
        }
    });
    (provider, origin)
}

/// Answers the requests of one connection.
async fn serve(stream: TcpStream, provider: Arc<Mutex<Provider>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut bearer, mut length) = (String::new(), String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "authorization" => bearer = value.trim_start_matches("Bearer ").to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ if path.is_empty() => path = line.split(' ').nth(1).unwrap().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        let (status, kind, text) = provider.lock().unwrap().answer(&path, &bearer, &body);
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
    }
}

impl Provider {
    fn answer(&mut self, path: &str, bearer: &str, body: &str) -> (u16, &'static str, String) {
        if path == "/token" {
            let wanted = refresh(self.newest).replace('/', "%2F");
            if self.is_shut || !body.contains(&wanted) || !body.contains("client_id=it") {
                let refusal = json!({"error": "invalid_grant", "error_description": "it is over"});
                return (400, "application/json", refusal.to_string());
            }
            self.renewals += 1;
            self.newest += 1;
            let found = json!({"access_token": access(self.newest), "token_type": "Bearer",
                "refresh_token": refresh(self.newest), "expires_in": 3600});
            return (200, "application/json", found.to_string());
        }
        self.asked += 1;
        if bearer != access(self.newest) {
            let refusal = json!({"error": {"message": "who are you?"}});
            return (401, "application/json", refusal.to_string());
        }
        let piece = |delta: Value, end: Value| {
            format!("data: {}\n\n", json!({"choices": [{"delta": delta, "finish_reason": end}]}))
        };
        let text = [
            piece(json!({"content": "let in"}), Value::Null),
            piece(json!({}), json!("stop")),
            "data: [DONE]\n\n".to_owned(),
        ];
        (200, "text/event-stream", text.concat())
    }
}

/// A daemon whose model needs the token with this number, good until then.
async fn daemon(origin: &str, expires_at: Value) -> Daemon {
    let base_url = format!("{origin}/v1");
    let known = json!({"it": {"kind": "openai", "base_url": base_url, "credential": "it"}});
    let settings = json!({"model": "it/model"});
    let plan = Plan::new().document("providers", &known).document("settings", &settings);
    let daemon = plan.start().await;
    let value = json!({"access": access(0), "refresh": refresh(0), "expires_at": expires_at,
        "token_url": format!("{origin}/token"), "client_id": "it"});
    let set = json!({"document": "credentials", "key": "it", "value": value});
    assert_eq!(daemon.wire().await.ok("state/set", set).await["value"], json!({"set": true}));
    daemon
}

#[tokio::test]
async fn a_token_that_grew_old_is_renewed_once_for_all_and_kept() {
    let (provider, origin) = provider().await;
    let daemon = daemon(&origin, json!(1)).await;
    let mut wire = daemon.wire().await;
    let mut sent = Vec::new();
    for _ in 0..CROWD {
        let session = wire.session().await;
        sent.push(wire.say(&session, "let me in").await);
    }
    for sent in &sent {
        assert_eq!(said(&wire.wait(sent).await["answer"]), "let in");
    }
    {
        let provider = provider.lock().unwrap();
        assert_eq!((provider.renewals, provider.asked), (1, CROWD), "nobody went with the old one");
    }
    // The old refresh token is void: only what was kept lets in after a kill.
    let daemon = daemon.killed_and_restarted().await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    assert_eq!(said(&wire.turn(&session, "again").await["answer"]), "let in");
    assert_eq!(provider.lock().unwrap().renewals, 1);
    let shown = wire.ok("state/get", json!({"document": "credentials"})).await;
    assert_eq!(shown["value"]["it"], json!({"set": true}));
    assert!(!daemon.plan().words().contains("canary"), "{}", daemon.plan().words());
}

#[tokio::test]
async fn a_token_that_is_refused_before_its_time_is_renewed_and_the_call_goes_on() {
    let (provider, origin) = provider().await;
    let daemon = daemon(&origin, Value::Null).await;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    assert_eq!(said(&wire.turn(&session, "first").await["answer"]), "let in");
    // Somebody took it back; what it is renewed with still is good.
    {
        let mut provider = provider.lock().unwrap();
        assert_eq!(provider.renewals, 0);
        provider.newest = 0;
    }
    let set = json!({"document": "credentials", "key": "it", "value": {"access": "stale", "refresh":
        refresh(0), "token_url": format!("{origin}/token"), "client_id": "it"}});
    wire.ok("state/set", set).await;
    let turn = wire.turn(&session, "second").await;
    assert_eq!(said(&turn["answer"]), "let in");
    assert_eq!(provider.lock().unwrap().renewals, 1);
}

#[tokio::test]
async fn who_is_let_in_no_more_is_told_so_and_how_to_begin_again() {
    let (provider, origin) = provider().await;
    let daemon = daemon(&origin, json!(1)).await;
    provider.lock().unwrap().is_shut = true;
    let mut wire = daemon.wire().await;
    let session = wire.session().await;
    let turn = wire.turn(&session, "let me in").await;
    let task = &turn["task"];
    assert_eq!((&task["status"], &task["error"]["reason"]), (&json!("failed"), &json!("auth")));
    let message = task["error"]["message"].as_str().unwrap();
    assert!(message.contains("it is over") && !message.contains("canary"), "{message}");
    assert_eq!(provider.lock().unwrap().asked, 0);
    let bad = json!({"document": "credentials", "key": "it", "value": {"access": "a", "refresh":
        "b", "token_url": "http://example.com/token"}});
    wire.refused("invalid_params", "state/set", bad).await;
}
