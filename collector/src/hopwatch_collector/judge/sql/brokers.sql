-- Under what brokers are known: by what clients and witnesses tell of them, and by the name they are watched under ('': not watched).
SELECT DISTINCT system, told, name FROM brokers
