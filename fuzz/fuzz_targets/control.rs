#![no_main]

valetkey_fuzz::target!("control");
