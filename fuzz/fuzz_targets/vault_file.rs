#![no_main]

valetkey_fuzz::target!("vault_file");
