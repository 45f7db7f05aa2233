"""The page and its interface for programs: what runs, seen and steered over HTTP.

site.py     what all of it shares: the pipeline that runs, the feed, the settings
server.py   the one server, on the process' network loop
app.py      the ASGI application: routes, errors, headers
access.py   who may look, who may change
feed.py     what the sinks are told, with numbers to resume by
gallery.py  the latest picture of every stream, and who watches; stills.py as JPEG, encoding.py for WebRTC,
            whep.py the peers, drawing.py what people see
routes/     one subject a file, each with its `router(site)`
page/       what the browser gets
"""
