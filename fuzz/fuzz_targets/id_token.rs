#![no_main]

valetkey_fuzz::target!("id_token");
