"""What a module's source says: scopes and what names are bound to, calls and their dotted names, what runs when."""
