"""Who may do what: personas and rules as data, judged by functions without effects."""
