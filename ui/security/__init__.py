"""What stands between every request and Gradio.

`guard` lets in what the page and the documented endpoints need, and nothing else. In order: by which name the
server is called and from where (`origin`), the route and the query (`routes`), the size and time of the body
(`bodies`); then, on the way out, the headers (`answer`). Every error is one sentence (`refusal`).

`egress` is the way from this process to others.
"""
