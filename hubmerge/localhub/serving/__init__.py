"""Between the network and the handlers.

wire.py         what handlers share: refusals, bounded bodies, the caller, the repository that a URL names
addresses.py    the names that a Hub goes by, and where it may send a browser
connections.py  clients' connections, closed where what still comes is for nobody
delivery.py     a stored file, whole or a range of it
zerocopy.py     its bytes straight to the connection by the operating system
signing.py      URLs that are a permission
faults.py       failures on demand, for tests
requestlog.py   who asked for what, without any secret
"""
