"""How this project talks to Dynamics and Campaign: URLs, tokens, paging, retries; nothing about mappings.

dataverse.py  campaign.py     what the two systems' answers mean; beside each: its _faults, what it tells of its
                              tables or resources, and (Dataverse) its _pages, and how single _rows are written:
                              _writes in parallel, each a _batch
        json_columns.py       JSON straight from bytes to columns
        http.py               one origin: token, retries, the gate all workers share
    throttle.py  tokens.py    when to send again; client credentials
        wire.py               one exchange over TLS, with an end in time
sftp.py                       the files of Campaign's SFTP area
        ssh.py                one connection to a pinned server
"""
