FROM scratch
COPY bin/pause /pause
ENTRYPOINT ["/pause"]
