#![no_main]

valetkey_fuzz::target!("policy");
