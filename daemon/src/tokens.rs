//! The one owner of access tokens: who needs one waits for the one renewal, which is kept before it is used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use sess_protocol::time::Timestamp;
use zeroize::Zeroizing;

use crate::documents::{Documents, Oauth};
use crate::model::oauth::{Renewal, Tokens, renew};

/// A token is renewed when it has less than this left: a call that begins with it must not end without.
const LEFT_MS_MIN: i64 = 60_000;

/// By credential: whose turn it is. There are no more of them than credentials.
type Turns = BTreeMap<String, Arc<tokio::sync::Mutex<()>>>;

/// The tokens in the document of credentials.
pub struct KeptTokens {
    documents: Documents,
    turns: Mutex<Turns>,
}

impl KeptTokens {
    /// Those of these documents.
    #[must_use]
    pub fn of(documents: Documents) -> Arc<Self> {
        Arc::new(Self { documents, turns: Mutex::default() })
    }

    fn turn(&self, credential: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(credential.to_owned()).or_default())
    }
}

impl Tokens for Arc<KeptTokens> {
    fn is_token(&self, credential: &str) -> bool {
        matches!(self.documents.oauth(credential), Some(Ok(_)))
    }

    fn access(
        &self,
        credential: String,
        refused: Option<Zeroizing<String>>,
    ) -> BoxFuture<'static, Result<Zeroizing<String>, String>> {
        let it = Arc::clone(self);
        Box::pin(async move {
            let turn = it.turn(&credential);
            let _turn = turn.lock().await;
            let gone = || format!("`sess login {credential}` was not done, or cannot be opened");
            let token = it.documents.oauth(&credential).ok_or_else(gone)??;
            let left = token.expires_at.map_or(i64::MAX, |at| at - Timestamp::now().0);
            let good = refused.as_ref().is_none_or(|it| *it != token.access);
            if good && left >= LEFT_MS_MIN {
                return Ok(token.access);
            }
            match renewed(&it.documents, &credential, &token).await {
                Ok(access) => Ok(access),
                // What is left of it may still do.
                Err(_) if good && left > 0 => Ok(token.access),
                Err(why) => Err(format!(
                    "the credential `{credential}` has expired and {why}; see `sess login {credential}`"
                )),
            }
        })
    }
}

async fn renewed(
    documents: &Documents,
    credential: &str,
    token: &Oauth,
) -> Result<Zeroizing<String>, String> {
    let (Some(refresh), Some(token_url)) = (&token.refresh, &token.token_url) else {
        return Err("does not say how it is renewed".to_owned());
    };
    let asked = Renewal {
        token_url,
        client_id: token.client_id.as_deref(),
        client_secret: token.client_secret.as_ref().map(|it| it.as_str()),
        refresh,
    };
    let found = renew(&asked).await.map_err(|why| format!("is not renewed: {why}"))?;
    let expires_at =
        found.expires_in.map(|it| Timestamp::now().0.saturating_add(it.saturating_mul(1000)));
    let access = found.access.clone();
    let next = Oauth {
        access: found.access,
        refresh: found.refresh.or_else(|| token.refresh.clone()),
        expires_at,
        ..token.clone()
    };
    // The old refresh token may be void from here on, so that the new one must not be lost.
    if let Err(err) = documents.keep_oauth(credential, &next).await {
        tracing::error!(credential, %err, "a renewed token is not kept: it will have to be renewed again");
    }
    tracing::info!(credential, "an access token was renewed");
    Ok(access)
}
