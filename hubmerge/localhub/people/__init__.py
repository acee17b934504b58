"""What a person sees in a browser.

pages.py     what is on this Hub, a repository's card, its files
layout.py    the templates in `templates/`, and the headers of every page, which loads nothing from elsewhere
markdown.py  cards as HTML
signin.py    signing in with a token of one's own
oauth.py     signing in to a page of hubmerge, or another application, by this Hub
"""
