#![no_main]

valetkey_fuzz::target!("callback");
