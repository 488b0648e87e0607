"""The admission webhook: AdmissionReview in, patch or verdict out. Asks the API server, never a DBMS."""
