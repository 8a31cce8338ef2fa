#![no_main]

valetkey_fuzz::target!("msal_cache");
