//! The closed vocabularies of the program: each word has one meaning in code, logs, metrics, rules and events.

use std::fmt;

/// Declares an enum whose variants are words of the outside world.
///
/// One list gives the order (used for comparison and as a dense index), the spelling and the parser, so that a
/// word cannot drift between a label, a rule file and an event.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }
    };
}

words! {
    /// What a record is about.
    Kind { SignIn = "sign_in", Refresh = "refresh", Pipeline = "pipeline", Other = "other", Text = "text" }
}

words! {
    /// Who or what was signing in.
    Flow {
        Interactive = "interactive",
        NonInteractive = "non_interactive",
        /// A user's password in a job (ROPC).
        UnattendedUser = "unattended_user",
        ServicePrincipal = "service_principal",
        ManagedIdentity = "managed_identity",
        Refresh = "refresh",
        Pipeline = "pipeline",
        /// Of unknown origin.
        Text = "text",
    }
}

impl Flow {
    /// Whether a person sits at the screen and can answer a prompt.
    pub const fn has_person(self) -> bool {
        matches!(self, Self::Interactive | Self::NonInteractive)
    }
}

words! {
    /// How a record ended.
    Outcome {
        Success = "success",
        /// A step on the way of a normal sign-in.
        Interrupt = "interrupt",
        Failure = "failure",
        /// A sign-in or refresh that does not say.
        Undetermined = "undetermined",
        /// Not a sign-in, refresh or pipeline run.
        Other = "other",
    }
}

words! {
    /// The action that an event asks for; ordered from least to most urgent.
    Severity { Info = "info", Low = "low", Medium = "medium", High = "high", Critical = "critical" }
}

words! {
    /// Who must act.
    Audience {
        User = "user",
        AppOwner = "app_owner",
        DatasetOwner = "dataset_owner",
        IdentityAdmin = "identity_admin",
        Security = "security",
        Microsoft = "microsoft",
        Nobody = "nobody",
    }
}

words! {
    /// What a code is about.
    Category {
        Credential = "credential",
        ConditionalAccess = "conditional_access",
        Mfa = "mfa",
        Consent = "consent",
        AppConfig = "app_config",
        AccountState = "account_state",
        Throttling = "throttling",
        Tenant = "tenant",
        Device = "device",
        Federation = "federation",
        Protocol = "protocol",
        Service = "service",
        Interrupt = "interrupt",
        Refresh = "refresh",
        Other = "other",
    }
}

words! {
    /// Why bytes could not be used.
    Reason {
        Empty = "empty",
        /// A Kafka tombstone.
        NullPayload = "null_payload",
        InvalidJson = "invalid_json",
        InvalidUtf8 = "invalid_utf8",
        TooLarge = "too_large",
        TooDeep = "too_deep",
        BadCompression = "bad_compression",
        /// A JSON value that is no object.
        UnknownShape = "unknown_shape",
        /// A bug of ours: the middle panicked on these bytes.
        Internal = "internal",
    }
}

words! {
    /// The log that a record came from: the `log_category` label of `aadstream_records_total`.
    LogCategory {
        SignIn = "SignInLogs",
        NonInteractive = "NonInteractiveUserSignInLogs",
        ServicePrincipal = "ServicePrincipalSignInLogs",
        ManagedIdentity = "ManagedIdentitySignInLogs",
        MicrosoftServicePrincipal = "MicrosoftServicePrincipalSignInLogs",
        Adfs = "ADFSSignInLogs",
        ActivityRuns = "ActivityRuns",
        PipelineRuns = "PipelineRuns",
        TriggerRuns = "TriggerRuns",
        Audit = "AuditLogs",
        Refresh = "refresh",
        None = "none",
        Other = "_other",
    }
}
