#![no_main]

valetkey_fuzz::target!("signed_envelope");
