"""How this project talks to Dynamics and Campaign: URLs, tokens, paging, retries; nothing about mappings.

dataverse.py  campaign.py     what the two systems' answers mean
        http.py               one origin: token, retries, the gate all workers share
    throttle.py  tokens.py    when to send again; client credentials
        wire.py               one exchange over TLS, with an end in time
"""
