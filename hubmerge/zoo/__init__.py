"""The demo zoo: five tiny models to merge, their training texts and problems, and the script that trains them."""
