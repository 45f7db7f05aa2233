"""The page and its interface for programs: what runs, seen and steered over HTTP.

site.py     what all of it shares: the pipeline that runs, the feed, the settings
server.py   the one server, on the process' network loop
app.py      the ASGI application
access.py   who may look, who may change; sessions.py cookies, allowance.py how often
guards.py   what stands before every route; connections.py before there is a request
problems.py how everything that goes wrong is told; asked.py what requests ask by
static.py   the files of the page; browser.py shows it to whoever sits in front
feed.py     what the sinks are told, with numbers to resume by
gallery.py  the latest picture of every stream, and who watches; stills.py as JPEG, encoding.py for WebRTC,
            whep.py the peers, drawing.py what people see
broadcast.py    from the feed to everybody who listens
routes/     one subject a file, each with its `router(site)`
page/       what the browser gets
"""
