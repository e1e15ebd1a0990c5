"""The HTTP/1.1-aware relay: each request of a kept-alive connection finds its own route and is answered by its action.

connection   one client connection: heads in, a route for each, the end
exchange     one request and its response: what actions and features see and use
features     the seams: what an action is, what looks at requests before it and at responses behind it
assembly     the features of a route, from its configuration
headers      what is changed in heads; rewrite: in paths
rates        how often requests may come; auth/: who may have them answered
answers      redirect, respond, block
static       files
forward      forward: to a target and back
converse     one request to one target, and its response
pool         connections to targets that wait for the next request
forwarded    X-Forwarded-*, Forwarded, and whom to believe about them
pages        what is said where nobody else answers
"""
